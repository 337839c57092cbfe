/** A client that shows nothing and answers nothing: a socket in a page of an origin that the stack allows. */
export class Client {
  page;

  constructor(page) {
    this.page = page;
  }

  /** Connects a user, who subscribes to channels. */
  static async connect(browser, stack, origin, user, channels = []) {
    const page = await browser.page();
    await page.goto(origin);
    const url = `${stack.urls.websocket}?token=${encodeURIComponent(await stack.token(user))}`;
    await page.evaluate((url) => {
      globalThis.received = [];
      globalThis.socket = new WebSocket(url);
      socket.addEventListener("message", ({ data }) => received.push(data));
      socket.addEventListener("close", ({ code }) => {
        globalThis.closeCode = code;
      });
      return new Promise((resolve) => socket.addEventListener("open", resolve));
    }, url);
    const client = new Client(page);
    if (channels.length > 0) {
      const data = { channels: channels.map((channel) => ({ channel })) };
      await client.send({ type: "subscribe", data });
      await client.receives('"subscribed"');
    }
    return client;
  }

  /** Sends a text as it is, or an object as a frame. */
  send(frame) {
    const text = typeof frame === "string" ? frame : JSON.stringify({ version: "1.0", ...frame });
    return this.page.evaluate((text) => socket.send(text), text);
  }

  /** Waits for a frame with this text. */
  async receives(text) {
    await this.page.waitForFunction((text) => received.some((frame) => frame.includes(text)), text);
  }

  /** Waits for the end of the connection, and returns its code. */
  async closes() {
    const handle = await this.page.waitForFunction(() => globalThis.closeCode);
    return handle.jsonValue();
  }
}
