import type { AddressInfo } from "node:net";
import { connect, createServer, type Server, type Socket } from "node:net";

/** A network between a client and the stack that a test can cut, freeze and block. */
export class Network {
  readonly #server: Server;
  readonly #pairs = new Set<[client: Socket, stack: Socket]>();
  #isBlocked = false;
  /** How many connections there have been. */
  count = 0;

  private constructor(target: URL) {
    this.#server = createServer((client) => {
      if (this.#isBlocked) {
        client.destroy();
        return;
      }
      this.count += 1;
      const stack = connect(Number(target.port), target.hostname.replace(/[[\]]/g, ""));
      const pair: [Socket, Socket] = [client, stack];
      this.#pairs.add(pair);
      const end = () => {
        client.destroy();
        stack.destroy();
        this.#pairs.delete(pair);
      };
      for (const socket of pair) socket.on("error", end).on("close", end);
      client.pipe(stack);
      stack.pipe(client);
    });
  }

  static async to(target: URL): Promise<Network> {
    const network = new Network(target);
    await new Promise<void>((resolve) => network.#server.listen(0, "127.0.0.1", resolve));
    return network;
  }

  /** The WebSocket URL of a stack behind this network. */
  url(websocket: URL): string {
    const url = new URL(websocket);
    url.hostname = "127.0.0.1";
    url.port = String((this.#server.address() as AddressInfo).port);
    return url.href;
  }

  /** The connections that are open. */
  get open(): number {
    return this.#pairs.size;
  }

  /** Cuts every connection. */
  cut(): void {
    for (const [client, stack] of this.#pairs) {
      client.resetAndDestroy();
      stack.resetAndDestroy();
    }
  }

  /** Carries nothing more on the present connections, as after a change of networks. */
  freeze(): void {
    for (const [client, stack] of this.#pairs) {
      client.unpipe(stack).pause();
      stack.unpipe(client).pause();
    }
  }

  /** Refuses new connections, or accepts them again. */
  block(isBlocked: boolean): void {
    this.#isBlocked = isBlocked;
  }

  close(): void {
    this.cut();
    this.#server.close();
  }
}
