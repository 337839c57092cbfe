import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/** The local stack, as a process of its own. */
export class Stack {
  /** The addresses that `belfry run --json` prints. */
  urls;
  /** Resolves when the process has ended. */
  ended;
  #process;

  constructor(process, urls) {
    this.#process = process;
    this.urls = urls;
    this.ended = once(process, "exit");
  }

  static async start(binaries, flags, signal) {
    const program = `${binaries}/belfry`;
    const child = spawn(program, ["run", "--json", ...flags], { stdio: ["ignore", "pipe", "pipe"] });
    const interrupt = () => child.kill("SIGTERM");
    signal.addEventListener("abort", interrupt);
    process.once("exit", () => child.kill("SIGKILL"));
    // What the functions log is of interest only if there is no stack.
    let log = "";
    child.stderr.on("data", (data) => {
      log = `${log}${data}`.slice(-4_000);
    });
    const [line] = await Promise.race([
      once(createInterface({ input: child.stdout }), "line"),
      once(child, "error").then(() => Promise.reject(new Error(`cannot start ${program}: run \`make demo\``))),
      once(child, "close").then(() => Promise.reject(new Error(`the local stack did not start:\n${log.trim()}`))),
    ]);
    signal.removeEventListener("abort", interrupt);
    return new Stack(child, JSON.parse(line));
  }

  /** An access token of a user. */
  async token(userId, seconds) {
    const { accessToken } = await this.#post("/_local/tokens", { user: userId, ttl: seconds });
    return accessToken;
  }

  /** Invokes a function and resolves with what it returned. Rejects if it failed. */
  async invoke(name, event) {
    return this.#post(`/2015-03-31/functions/${name}/invocations`, event);
  }

  /** Makes something fail. */
  fault(fault) {
    return this.#post("/_local/faults", fault);
  }

  faults() {
    return send(`${this.urls.lambda}/_local/faults`);
  }

  endFault(id) {
    return send(`${this.urls.lambda}/_local/faults/${id}`, { method: "DELETE" });
  }

  /** Closes a connection as API Gateway's own API does. */
  drop(connectionId) {
    return send(`${this.urls.management}/@connections/${encodeURIComponent(connectionId)}`, { method: "DELETE" });
  }

  async stop() {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    this.#process.kill("SIGTERM");
    await this.ended;
  }

  #post(path, body) {
    const headers = { "content-type": "application/json" };
    return send(`${this.urls.lambda}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  }
}

async function send(url, request) {
  const response = await fetch(url, request);
  const text = await response.text();
  if (!response.ok) throw new Error(`${new URL(url).pathname}: ${response.status} ${text}`);
  if (response.headers.has("x-amz-function-error")) throw new Error(`${new URL(url).pathname}: ${text}`);
  return text ? JSON.parse(text) : undefined;
}
