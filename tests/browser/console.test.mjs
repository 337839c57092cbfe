// The local stack's console.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { Browser, errorsOf, picture, screenshot, seriousFindings } from "./support/browser.mjs";
import { Client } from "./support/client.mjs";
import { inRepository } from "./support/repository.mjs";
import { serveFolder } from "./support/serve.mjs";
import { Stack } from "./support/stack.mjs";

/** More than the page has controls. */
const MAX_PRESSES = 200;

const WIDE = { width: 1440, height: 900 };

let browser;
let files;
let stack;
before(async () => {
  browser = await Browser.launch();
  files = await serveFolder(inRepository("tests/browser/blank"));
});
after(async () => {
  await browser?.close();
  files?.stop();
});

/** Starts a stack that ends with the test. */
async function start(options = []) {
  stack = await Stack.start({ parameters: { AllowedOrigins: files.origin }, options });
}
afterEach(async () => {
  await stack?.stop();
  stack = undefined;
});

async function openConsole(options = {}) {
  const page = await browser.page({ viewport: WIDE, ...options });
  await page.goto(stack.urls.console);
  await page.getByText("Live", { exact: true }).waitFor();
  return page;
}

const connect = (user, channels) => Client.connect(browser, stack, files.origin, user, channels);
const rowOf = (page, user) => page.locator("#connections tbody tr").filter({ hasText: user });
const traffic = (page, text) => page.locator("#traffic li").filter({ hasText: text }).first();

test("connections, their channels, and what they say", async () => {
  await start();
  const page = await openConsole();
  await page.getByText("Nobody is connected.").waitFor();
  const alice = await connect("alice", ["demo:room", "demo:quote"]);
  const bob = await connect("bob", ["demo:room"]);
  const row = rowOf(page, "alice");
  for (const channel of ["demo:room", "demo:quote"]) await row.getByText(channel, { exact: true }).waitFor();
  await rowOf(page, "bob").waitFor();

  const broadcast = page.locator("#broadcast");
  await broadcast.getByLabel("User", { exact: true }).fill("alice");
  await broadcast.getByLabel("Data, as JSON").fill('{"kind": "upload.completed", "file": "picture.png"}');
  await broadcast.getByRole("button").click();
  await page.getByText("done: 1 reached, 0 not").waitFor();
  await alice.receives("picture.png");
  const sent = traffic(page, "notification · upload.completed");
  await sent.getByText('{"file":"picture.png"}', { exact: true }).waitFor();
  await sent.locator("summary").click();
  await sent.getByText('"file": "picture.png"').waitFor();
  const invocation = page.locator("#functions li").filter({ hasText: "Broadcaster" });
  await invocation.locator("summary").click();
  await invocation.getByText("REPORT RequestId").waitFor();

  await page.getByRole("radio", { name: "Publish" }).check();
  const publish = page.locator("#publish");
  await publish.getByLabel("User", { exact: true }).fill("carol");
  await publish.getByLabel("Channel", { exact: true }).fill("demo:room");
  await publish.getByLabel("Data, as JSON").fill('{"text": "from the console"}');
  await publish.getByRole("button").click();
  await page.getByText("Published as number 1").waitFor();
  for (const client of [alice, bob]) await client.receives("from the console");

  await publish.getByLabel("Channel", { exact: true }).fill("secret:room");
  await publish.getByRole("button").click();
  await page.getByText(/^FORBIDDEN: /).waitFor();
  await publish.getByLabel("Data, as JSON").fill("{");
  await publish.getByRole("button").click();
  await page.getByText(/^The data is not JSON: /).waitFor();
  assert.equal(await publish.getByLabel("Data, as JSON").getAttribute("aria-invalid"), "true");

  // The user's name is a filter, and so is any text.
  await row.getByRole("button", { name: "alice", exact: true }).click();
  await traffic(page, "bobconnected").waitFor({ state: "hidden" });
  const shown = await page.locator("#traffic li:visible b").allTextContents();
  assert.deepEqual(new Set(shown), new Set(["alice"]));
  await page.getByLabel("Filter the traffic").fill("bob");
  await traffic(page, "bobconnected").waitFor();
  await page.getByLabel("Filter the traffic").fill("nothing has this");
  await page.getByText("Nothing here has this text.").waitFor();
  assert.deepEqual(errorsOf(page), []);
});

test("a connection is closed", async () => {
  await start();
  const page = await openConsole();
  const alice = await connect("alice");
  await page.getByRole("button", { name: "Close the connection of alice" }).click();
  assert.equal(await alice.closes(), 1000);
  await page.getByText("Nobody is connected.").waitFor();
  await traffic(page, "disconnected: 1000").waitFor();
});

test("a fault is switched on and off", async () => {
  await start();
  const page = await openConsole();
  await connect("alice");
  await rowOf(page, "alice").waitFor();
  const gone = page.getByRole("switch", { name: "post-410" });
  await gone.click();
  await gone.and(page.getByRole("switch", { checked: true })).waitFor();
  await page.getByRole("button", { name: "Broadcast" }).click();
  await page.getByText("done: 0 reached, 1 not (1 gone)").waitFor();
  await gone.getByText(/struck [1-9]/).waitFor();
  await gone.click();
  await gone.and(page.getByRole("switch", { checked: false })).waitFor();
  await page.getByRole("button", { name: "Broadcast" }).click();
  await page.getByText("done: 1 reached, 0 not").waitFor();

  // One that came from elsewhere, then one with options.
  await stack.fault({ fault: "peer-freeze", share: 0.5 });
  await page.getByText(/struck \d+×, share 0.5/).waitFor();
  await page.getByText("Options for the next one").click();
  await page.getByLabel("Times").selectOption("3 times");
  await page.getByLabel("Delay").fill("50ms");
  await page.getByLabel("Only this one").fill("Worker");
  await page.getByRole("switch", { name: "function-kill" }).click();
  await page.getByText("struck 0×, of 3, 50ms, Worker").waitFor();
  await page.getByLabel("Only this one").fill("Wroker");
  await page.getByRole("switch", { name: "function-lose-answer" }).click();
  await page.getByText(/did you mean Worker/).waitFor();
  await page.getByRole("button", { name: "End all" }).click();
  await page.locator("#faults-count").getByText("0", { exact: true }).waitFor();
});

test("a dead letter is shown", async () => {
  await start(["--retry-delay", "1ms"]);
  const page = await openConsole();
  const headers = { "x-amz-invocation-type": "Event" };
  const body = '{"target": "nobody"}';
  await fetch(`${stack.urls.lambda}/2015-03-31/functions/Broadcaster/invocations`, { method: "POST", headers, body });
  const letter = page.locator("#letters li");
  await letter.getByText("RetriesExhausted").waitFor();
  await letter.locator("summary").click();
  await letter.getByText('"target": "nobody"').waitFor();
});

test("nothing that a client sends becomes markup", async () => {
  await start();
  const page = await openConsole();
  const hostile = `<img src="x" onerror="globalThis.isHurt = true"><script>globalThis.isHurt = true</script>`;
  const count = () => page.evaluate(() => document.querySelectorAll("img, script, i").length);
  const before = await count();
  const eve = await connect(`<i>eve</i>${hostile}`);
  await eve.send(hostile);
  await eve.send({ type: hostile, data: { kind: hostile, channel: hostile } });
  await eve.send({ type: "__proto__", data: { kind: "constructor", channel: { toString: null } } });
  await eve.send(`{"type":"echo","version":"1.0","data":${"[".repeat(5000)}${"]".repeat(5000)}}`);
  const name = { type: "echo", data: { kind: "<b>bold</b>" } };
  await eve.send(name);
  await traffic(page, "echo · <b>bold</b>").waitFor();
  await traffic(page, "__proto__ · constructor").waitFor();
  await page.locator("#traffic li").filter({ hasText: "not JSON" }).filter({ hasText: hostile }).first().waitFor();
  await rowOf(page, "<i>eve</i>").waitFor();
  for (const summary of await page.locator("#traffic summary").all()) await summary.click();
  assert.equal(await count(), before);
  assert.equal(await page.evaluate(() => globalThis.isHurt), undefined);
  assert.deepEqual(errorsOf(page), []);
});

test("no token is shown", async () => {
  await start();
  const page = await openConsole();
  const alice = await connect("alice");
  const token = await stack.token("alice");
  await alice.send({ type: "auth.refresh", data: { token } });
  await traffic(page, "auth.refreshed").waitFor();
  const frame = traffic(page, '{"token":"(token)"}');
  await frame.locator("summary").click();
  await frame.locator("pre").waitFor();
  assert.ok(!(await page.content()).includes(token.split(".")[2]));
});

test("the keyboard is enough", async () => {
  await start();
  const page = await openConsole();
  await connect("alice");
  await rowOf(page, "alice").waitFor();
  await traffic(page, "connected").waitFor();
  const tabTo = async (locator) => {
    for (let presses = 0; presses < MAX_PRESSES; presses += 1) {
      if (await locator.evaluate((element) => element === document.activeElement)) return;
      await page.keyboard.press("Tab");
    }
    assert.fail(`${locator} is not in the order of the Tab key`);
  };
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.activeElement.id === "traffic");
  await tabTo(page.getByRole("button", { name: "Pause" }));
  await page.keyboard.press("Space");
  await page.getByRole("button", { name: "Resume" }).waitFor();
  await page.keyboard.press("Space");
  await tabTo(page.getByRole("button", { name: "Broadcast" }));
  await page.keyboard.press("Enter");
  await page.getByText("done: 1 reached, 0 not").waitFor();
  await tabTo(page.getByRole("switch", { name: "post-429" }));
  await page.keyboard.press("Space");
  await page.getByRole("switch", { checked: true }).waitFor();
  await page.locator("#functions summary").first().waitFor();
  // Past the last control, and round again.
  await tabTo(page.locator("#functions summary").first());
  await page.keyboard.press("Enter");
  await page.locator("#functions details[open]").first().waitFor();
  await page.keyboard.press("Shift+Tab");
  await tabTo(page.getByRole("button", { name: "Close the connection of alice" }));
  await page.keyboard.press("Enter");
  await page.getByText("Nobody is connected.").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.closest("section")?.id), "connections");
});

test("a paused page goes on where it was", async () => {
  await start();
  const page = await openConsole();
  const alice = await connect("alice");
  await traffic(page, "connected").waitFor();
  await page.getByRole("button", { name: "Pause" }).click();
  await alice.send({ type: "echo", data: "later" });
  await page.getByRole("button", { name: "Resume (2)" }).waitFor();
  assert.equal(await traffic(page, "later").count(), 0);
  await page.getByRole("button", { name: "Resume (2)" }).click();
  await traffic(page, "later").waitFor();
});

test("the page says when the stack has gone", async () => {
  await start();
  const page = await openConsole();
  await stack.stop();
  stack = undefined;
  await page.getByText("The stack does not respond. Waiting for it…").waitFor();
});

test("it is accessible and fits in each scheme and size", async () => {
  await start(["--retry-delay", "1ms"]);
  const watching = await openConsole();
  const alice = await connect("alice", ["demo:room", "demo:quote:7"]);
  const bob = await connect("bob", ["demo:room"]);
  await alice.send({ type: "publish", data: { channel: "demo:room", kind: "chat.line", data: "Is the quote ready?" } });
  await bob.receives("Is the quote ready?");
  await bob.send({ type: "publish", data: { channel: "demo:room", kind: "chat.line", data: "In a minute." } });
  await alice.receives("In a minute.");
  await bob.send("hello");
  await bob.receives("INVALID_MESSAGE");
  await stack.notify({ type: "user", userId: "alice" }, { kind: "upload.completed", file: "x.png" });
  await stack.invoke("Broadcaster", {});
  await stack.fault({ fault: "post-410", share: 0.1 });
  await traffic(watching, "upload.completed").waitFor();
  for (const [name, options] of [
    ["picture", { viewport: { width: 1200, height: 740 } }],
    ["light", { viewport: WIDE }],
    ["dark", { viewport: WIDE, colorScheme: "dark" }],
    ["tablet", { viewport: { width: 900, height: 1100 } }],
    ["narrow-light", { viewport: { width: 375, height: 800 } }],
    ["narrow-dark", { viewport: { width: 375, height: 800 }, colorScheme: "dark" }],
  ]) {
    const page = await openConsole(options);
    await traffic(page, "upload.completed").waitFor();
    await rowOf(page, "bob").waitFor();
    await page.getByText(/struck \d+×, share 0.1/).waitFor();
    if (name === "picture") await picture(page, "console");
    await traffic(page, "error").locator("summary").click();
    await page.locator("#functions li").filter({ hasText: "failed" }).locator("summary").click();
    await page.getByText("Options for the next one").click();
    await screenshot(page, `console-${name}`, { fullPage: true });
    assert.deepEqual(await seriousFindings(page), [], name);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(overflow <= 0, `${name}: ${overflow} pixels too wide`);
    assert.deepEqual(errorsOf(page), []);
  }
});
