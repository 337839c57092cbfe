import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { inRepository } from "./repository.mjs";

/** The server of examples/web with a local stack of its own: what `make demo` starts. */
export class Demo {
  /** Where the page is. */
  address;
  /** Where a demo that is started again finds its open pages. */
  ports;
  #process;

  constructor(process, { address, websocket }) {
    this.#process = process;
    this.address = address;
    this.ports = { page: new URL(address).port, stack: new URL(websocket).port };
  }

  static async start(ports = { page: "0", stack: "0" }) {
    const binaries = inRepository(process.env.BELFRY_BINARIES ?? "target/debug");
    const options = ["--json", "--port", ports.page, "--stack-port", ports.stack, "--binaries", binaries];
    const child = spawn(process.execPath, [inRepository("examples/web/server/main.mjs"), ...options], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    // A test run that is interrupted leaves no server behind. It ends its stack.
    process.once("exit", () => child.kill("SIGTERM"));
    const [line] = await Promise.race([
      once(createInterface({ input: child.stdout }), "line"),
      once(child, "exit").then(() => Promise.reject(new Error("the demo did not start"))),
    ]);
    return new Demo(child, JSON.parse(line));
  }

  /** Does what one of the page's buttons does. */
  async post(path, body = {}) {
    const headers = { "content-type": "application/json" };
    const response = await fetch(`${this.address}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  async stop() {
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGINT");
    const [code] = await ended;
    return code;
  }
}
