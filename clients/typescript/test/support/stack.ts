import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Position } from "../../src/index.js";

const repository = new URL("../../../../", import.meta.url);
const binaries = new URL(`${process.env["BELFRY_BINARIES"] ?? "target/debug"}/`, repository);

/** The rules of these tests' channels. */
const RULES = {
  version: "1.0",
  channels: [
    { match: "room:**", allow: ["subscribe", "publish", "presence", "lock"], history: { seconds: 86_400 } },
    { match: "brief:*", allow: ["subscribe", "publish"], history: { seconds: 60 } },
    { match: "plain:*", allow: ["subscribe", "publish"] },
    { match: "admin:*", groups: ["admins"], allow: ["subscribe", "publish"], history: { seconds: 300 } },
  ],
};

interface TokenOptions {
  /** Its lifetime in seconds. */
  ttl?: number;
  groups?: string[];
}

/** A local stack of its own, with the binaries that `cargo build` made. */
export class Stack {
  /** The WebSocket API. */
  readonly websocket: URL;
  /** The function `Reader`, if the stack has it. */
  readonly reader: string;
  readonly #process: ChildProcess;
  readonly #management: string;
  readonly #api: string;
  readonly #dynamodb: string;
  readonly #folder: string;
  readonly #log: () => string;

  private constructor(process: ChildProcess, ready: Record<string, string>, folder: string, log: () => string) {
    this.#process = process;
    this.#folder = folder;
    this.#log = log;
    this.websocket = new URL(ready["websocket"] ?? "");
    this.reader = ready["reader"] ?? "";
    this.#management = ready["management"] ?? "";
    this.#api = ready["lambda"] ?? "";
    this.#dynamodb = ready["dynamodb"] ?? "";
  }

  static async start(...options: string[]): Promise<Stack> {
    const folder = await mkdtemp(join(tmpdir(), "belfry-client-"));
    const rules = join(folder, "channels.json");
    await writeFile(rules, JSON.stringify(RULES));
    const path = (url: URL) => fileURLToPath(url);
    const template = ["--template", path(new URL("template.yaml", repository)), "--functions", path(binaries)];
    const ports = ["--port", "0", "--dynamodb-port", "0", "--json", "--channels", rules];
    const rate = ["--parameter", "MessagesPerMinute=60000", "--parameter", "BroadcastAllIntervalSeconds=0"];
    const child = spawn(path(new URL("belfry", binaries)), ["run", ...template, ...ports, ...rate, ...options], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    // A test run that is interrupted leaves no stack behind.
    process.once("exit", () => child.kill("SIGKILL"));
    let log = "";
    child.stderr.on("data", (data) => (log += data));
    const lines = createInterface({ input: child.stdout });
    const line = await Promise.race([
      once(lines, "line").then(([text]) => String(text)),
      once(child, "error").then(([error]) => Promise.reject(error)),
      once(child, "exit").then(() => Promise.reject(new Error(`the stack did not start:\n${log}`))),
    ]);
    return new Stack(child, JSON.parse(line), folder, () => log);
  }

  /** An access token. */
  async token(user: string, options: TokenOptions = {}): Promise<string> {
    const { accessToken } = await this.#post(`${this.#api}/_local/tokens`, { user, ...options });
    return accessToken;
  }

  /** Makes something fail until it is mended. Returns a function that ends it. */
  async fault(spec: object): Promise<() => Promise<void>> {
    const { id } = await this.#post(`${this.#api}/_local/faults`, spec);
    return async () => {
      await fetch(`${this.#api}/_local/faults/${id}`, { method: "DELETE" });
    };
  }

  /** How often each active fault has struck. */
  async struck(): Promise<number> {
    const faults = (await (await fetch(`${this.#api}/_local/faults`)).json()) as Array<{ struck: number }>;
    return faults.reduce((sum, { struck }) => sum + struck, 0);
  }

  /** How often a text is in the stack's log. */
  count(text: string): number {
    return this.#log().split(text).length - 1;
  }

  async invoke(name: string, event: unknown): Promise<unknown> {
    return await this.#post(`${this.#api}/2015-03-31/functions/${name}/invocations`, event);
  }

  /** Sends a notification to a user, as a REST handler does. */
  async notify(userId: string, data: object, messageId?: string): Promise<void> {
    const message = { type: "notification", data };
    await this.invoke("Broadcaster", { target: { type: "user", userId }, message, ...(messageId && { messageId }) });
  }

  /** Closes a connection as an operator does. */
  async disconnect(connectionId: string): Promise<void> {
    const path = encodeURIComponent(connectionId);
    await fetch(`${this.#management}/@connections/${path}`, { method: "DELETE" });
  }

  /** Posts a text to a connection, without a record of it anywhere. */
  async postTo(connectionId: string, text: string): Promise<void> {
    const path = encodeURIComponent(connectionId);
    await fetch(`${this.#management}/@connections/${path}`, { method: "POST", body: text });
  }

  /** Has the next sweep count the users of a large channel, which it does once a minute otherwise. */
  async countUsers(channel: string): Promise<void> {
    // The shard of a count is its minute's, one of sixteen.
    const dueAt = String(16 * 60_000).padStart(13, "0");
    const key = { pk: { S: "due#00" }, sk: { S: `${dueAt}#count#${channel}` } };
    await this.#dynamo("PutItem", { TableName: "State", Item: { ...key, channel: { S: channel } } });
  }

  /** Removes the messages of a channel up to a number from its history, oldest first, as their expiry does. */
  async expire(channel: string, { epoch, seq }: Position): Promise<void> {
    const key = (number: number) => ({ S: `${epoch}#${String(number).padStart(20, "0")}` });
    // A fault of the test may refuse a call.
    const retried = async (operation: string, input: object) => {
      for (let attempt = 1; ; attempt += 1) {
        try {
          return await this.#dynamo(operation, input);
        } catch (error) {
          if (attempt === 20) throw error;
        }
      }
    };
    const { Items } = await retried("Query", {
      TableName: "Messages",
      KeyConditionExpression: "channel = :channel AND #position BETWEEN :first AND :last",
      ProjectionExpression: "channel, #position",
      ExpressionAttributeNames: { "#position": "position" },
      ExpressionAttributeValues: { ":channel": { S: channel }, ":first": key(1), ":last": key(seq) },
    });
    for (const Key of Items) await retried("DeleteItem", { TableName: "Messages", Key });
  }

  async stop(): Promise<void> {
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGTERM");
    // The second signal ends it without waiting for the functions.
    const patience = setTimeout(() => this.#process.kill("SIGTERM"), 10_000);
    await ended;
    clearTimeout(patience);
    await rm(this.#folder, { recursive: true });
  }

  /** Calls the embedded DynamoDB, which checks the form of a signature and nothing else. */
  #dynamo(operation: string, input: unknown) {
    const scope = "x/20260101/us-east-1/dynamodb/aws4_request";
    return this.#post(this.#dynamodb, input, {
      "content-type": "application/x-amz-json-1.0",
      "x-amz-target": `DynamoDB_20120810.${operation}`,
      "x-amz-date": "20260101T000000Z",
      authorization: `AWS4-HMAC-SHA256 Credential=${scope}, SignedHeaders=host, Signature=x`,
    });
  }

  async #post(url: string, body: unknown, headers: Record<string, string> = { "content-type": "application/json" }) {
    const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
    return JSON.parse(await response.text());
  }
}
