import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { inRepository } from "./repository.mjs";

/** Where the tests find the binaries that `cargo build` made. */
const BINARIES = inRepository(process.env.BELFRY_BINARIES ?? "target/debug");

/** A test run that is interrupted leaves no stack behind. */
const running = new Set();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** A local stack of its own. */
export class Stack {
  /** The addresses that `belfry run --json` prints. */
  urls;
  #process;

  constructor(process, urls) {
    this.#process = process;
    this.urls = urls;
  }

  /** Starts a stack. `parameters` are the template's; `options` are further flags of `belfry run`. */
  static async start({ parameters = {}, options = [] } = {}) {
    const flags = ["--json", "--port", "0", "--dynamodb-port", "0"];
    flags.push("--template", inRepository("template.yaml"), "--functions", BINARIES);
    for (const [name, value] of Object.entries(parameters)) flags.push("--parameter", `${name}=${value}`);
    const child = spawn(`${BINARIES}/belfry`, ["run", ...flags, ...options], { stdio: ["ignore", "pipe", "pipe"] });
    running.add(child);
    child.once("exit", () => running.delete(child));
    let log = "";
    child.stderr.on("data", (data) => {
      log += data;
    });
    const line = await Promise.race([
      once(createInterface({ input: child.stdout }), "line").then(([text]) => text),
      once(child, "error").then(([error]) => Promise.reject(error)),
      once(child, "exit").then(() => Promise.reject(new Error(`the stack did not start:\n${log}`))),
    ]);
    return new Stack(child, JSON.parse(line));
  }

  /** An access token. `options` may have `ttl` in seconds, and `groups`. */
  async token(user, options = {}) {
    const { accessToken } = await this.#post("/_local/tokens", { user, ...options });
    return accessToken;
  }

  /** Makes something fail, like `{fault: "post-410"}`. Returns a function that ends it. */
  async fault(spec) {
    const { id } = await this.#post("/_local/faults", spec);
    return () => send(`${this.urls.lambda}/_local/faults/${id}`, { method: "DELETE" });
  }

  /** Invokes a function and waits for its answer. */
  invoke(name, event) {
    return this.#post(`/2015-03-31/functions/${name}/invocations`, event);
  }

  /** Sends a notification to a target, as a REST handler does. */
  notify(target, data, messageId) {
    const message = { type: "notification", data };
    return this.invoke("Broadcaster", { target, message, ...(messageId && { messageId }) });
  }

  /** Calls the embedded DynamoDB, which checks the form of a signature and nothing else. */
  dynamodb(operation, input) {
    const scope = "x/20260101/us-east-1/dynamodb/aws4_request";
    const headers = {
      "content-type": "application/x-amz-json-1.0",
      "x-amz-target": `DynamoDB_20120810.${operation}`,
      "x-amz-date": "20260101T000000Z",
      authorization: `AWS4-HMAC-SHA256 Credential=${scope}, SignedHeaders=host, Signature=x`,
    };
    return send(this.urls.dynamodb, { method: "POST", headers, body: JSON.stringify(input) });
  }

  async stop() {
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGTERM");
    await ended;
  }

  #post(path, body) {
    const headers = { "content-type": "application/json" };
    return send(`${this.urls.lambda}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  }
}

/** The JSON that a request is answered with. */
async function send(url, request) {
  const response = await fetch(url, request);
  const text = await response.text();
  if (!response.ok) throw new Error(`${url}: ${response.status} ${text}`);
  return text && JSON.parse(text);
}
