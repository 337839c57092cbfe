import { backoff } from "./backoff.js";
import type { Environment } from "./environment.js";
import { BelfryError, errorOf } from "./errors.js";
import { between, bytesOf, framesIn, parseFrame } from "./frame.js";
import { type Advice, closingErrors, gatewayAdvice } from "./generated/advice.js";
import type { ClientFrames, HelloData, ServerFrame, ServerFrames } from "./generated/frames.js";
import { Pacer } from "./pacer.js";
import { adviceAfter, type Link, type LinkRequest, type Transport } from "./transport.js";
import { ABNORMAL } from "./websocket.js";

/**
 * The longest that a handshake, `hello` and a call may take: longer than API Gateway waits for a function. When thousands
 * connect at once, whoever gives up earlier begins again at the end of the queue, and nobody gets through.
 */
const FUNCTION_MS = 35_000;
/** How often `hello` is repeated on the same connection. */
const MAX_RETRIES = 3;
/** The longest that another answer may take. */
const ANSWER_MS = 10_000;

/** Why a connection ended. */
export interface End {
  advice: Advice;
  error: BelfryError;
}

export interface ConnectionEvents {
  /** The data of `hello`. */
  hello(): HelloData;
  /** The server has answered `hello`. */
  welcomed(frame: ServerFrames["welcome"]): void;
  /** A frame that answers nothing. */
  received(frame: ServerFrame): void;
  ended(end: End): void;
}

/** The requests of a client, and the replies. */
export type Replies = {
  ping: "pong";
  "auth.refresh": "auth.refreshed";
  subscribe: "subscribed";
  unsubscribe: "unsubscribed";
  publish: "published";
  history: "history";
  sync: "synced";
  presence: "presence";
  lock: "locked";
  unlock: "unlocked";
  ack: "acked";
  call: "result";
  hello: "welcome";
};

interface Pending {
  text: string;
  patienceMs: number;
  timer?: unknown;
  resolve(frame: ServerFrame): void;
  reject(error: BelfryError): void;
}

/** One connection: from its handshake to its end. */
export class Connection {
  readonly #environment: Environment;
  readonly #events: ConnectionEvents;
  readonly #pacer: Pacer;
  readonly #pending = new Map<string, Pending>();
  readonly #pingAfterMs: number;
  readonly #link: Link;
  readonly #handshake: unknown;
  /** The next probe, or the end of a connection that was replaced. */
  #silence: unknown;
  #probe: unknown;
  #nextId = 1;
  /** The last error that answers no request: the server's reason if it now closes the connection. */
  #reason: BelfryError | undefined;
  #maxBytes = Number.POSITIVE_INFINITY;
  #hasEnded = false;
  #isRetired = false;

  constructor(
    environment: Environment,
    transport: Transport,
    request: LinkRequest,
    pingAfterMs: number,
    events: ConnectionEvents,
  ) {
    this.#environment = environment;
    this.#events = events;
    this.#pingAfterMs = pingAfterMs;
    this.#pacer = new Pacer(environment);
    this.#link = transport.open(request, {
      opened: () => this.#hello(),
      received: (text) => this.#received(text),
      closed: (code) => this.#closed(code),
    });
    this.#handshake = environment.setTimeout(() => this.#fail(), FUNCTION_MS);
  }

  /** Sends a frame and waits for the reply. */
  request<T extends keyof Replies>(type: T, data?: ClientFrames[T]["data"]): Promise<ServerFrames[Replies[T]]> {
    const id = String(this.#nextId++);
    const text = JSON.stringify({ type, version: "1.0", id, data });
    return new Promise((resolve, reject) => {
      if (this.#hasEnded) {
        reject(disconnected());
      } else if (bytesOf(text) > this.#maxBytes) {
        reject(new BelfryError("MESSAGE_TOO_LARGE", `a frame may have ${this.#maxBytes} bytes`));
      } else {
        const patienceMs = type === "hello" || type === "call" ? FUNCTION_MS : ANSWER_MS;
        const pending: Pending = { text, patienceMs, resolve: resolve as Pending["resolve"], reject };
        this.#pending.set(id, pending);
        this.#send(id, pending);
      }
    });
  }

  /** Ends the connection unless a frame arrives in time. The caller sends one that is answered. */
  expectFrame(): void {
    if (this.#hasEnded || this.#probe !== undefined) return;
    this.#probe = this.#environment.setTimeout(() => this.#fail("retryNow"), ANSWER_MS);
  }

  /** Another connection has replaced this one: closes it when every request is answered. */
  retire(): void {
    this.#isRetired = true;
    this.#environment.clearTimeout(this.#silence);
    this.#silence = this.#environment.setTimeout(() => this.close(), FUNCTION_MS);
    this.#closeIfIdle();
  }

  /** Closes the connection. No event follows. */
  close(): void {
    if (this.#finish()) this.#link.close();
  }

  /** A stack may allow only tiny frames. The subscriptions follow when the limit is known. */
  #hello(failures = 0, isTiny = false): void {
    this.#environment.clearTimeout(this.#handshake);
    this.request("hello", { accepts: ["batch"], ...(isTiny ? {} : this.#events.hello()) }).then(
      (frame) => {
        if (this.#hasEnded) return;
        const { maxMessageBytes, messagesPerMinute } = frame.data.limits;
        this.#maxBytes = maxMessageBytes;
        this.#pacer.limit(messagesPerMinute);
        this.#events.welcomed(frame);
      },
      (error: BelfryError) => {
        const isTooLarge = error.code === "MESSAGE_TOO_LARGE";
        if (failures < MAX_RETRIES && (isTooLarge || error.code === "INTERNAL")) {
          // To begin again with a handshake would cost a busy stack far more.
          if (!isTooLarge) this.#pacer.pause(backoff(failures, this.#environment));
          this.#hello(failures + 1, isTiny || isTooLarge);
        } else this.#end(error);
      },
    );
  }

  #send(id: string, pending: Pending): void {
    this.#pacer.schedule(() => {
      pending.timer = this.#environment.setTimeout(
        () => this.#settle(id)?.reject(new BelfryError("TIMEOUT", "no answer")),
        pending.patienceMs,
      );
      this.#link.send(pending.text);
    });
  }

  #received(text: unknown): void {
    if (this.#hasEnded) return;
    this.#heard();
    const frame = parseFrame(text);
    if (!frame) return;
    if (frame.type === undefined) {
      this.#gatewayFailed();
    } else if (frame.type === "error") {
      this.#refused(frame);
    } else if (frame.type === "ping") {
      this.#pacer.count();
      this.#link.send(JSON.stringify({ type: "pong", version: "1.0" }));
    } else {
      const pending = this.#settle(frame.correlationId);
      if (pending) pending.resolve(frame);
      else for (const one of framesIn(frame)) this.#events.received(one);
    }
  }

  /** API Gateway does not say which frame its error answers. If several wait, their timers decide. */
  #gatewayFailed(): void {
    const [id, other] = this.#pending.keys();
    if (other !== undefined) return;
    const error = new BelfryError("INTERNAL", "the function failed", { advice: gatewayAdvice });
    this.#settle(id)?.reject(error);
  }

  #refused({ data, correlationId = "" }: ServerFrames["error"]): void {
    const error = errorOf(data);
    if (!correlationId) this.#reason = error;
    const pending = this.#pending.get(correlationId);
    if (data.code !== "RATE_LIMITED") {
      this.#settle(correlationId)?.reject(error);
      return;
    }
    this.#pacer.pause(data.retryAfterMs ?? ANSWER_MS);
    if (!pending) return;
    this.#environment.clearTimeout(pending.timer);
    this.#send(correlationId, pending);
  }

  /** Takes a request out of those that wait for an answer. */
  #settle(id = ""): Pending | undefined {
    const pending = this.#pending.get(id);
    if (!pending) return undefined;
    this.#environment.clearTimeout(pending.timer);
    this.#pending.delete(id);
    if (this.#isRetired) queueMicrotask(() => this.#closeIfIdle());
    return pending;
  }

  #closeIfIdle(): void {
    if (this.#pending.size === 0) this.close();
  }

  /** Every frame proves that the connection is alive. */
  #heard(): void {
    this.#environment.clearTimeout(this.#probe);
    this.#probe = undefined;
    if (this.#isRetired) return;
    this.#environment.clearTimeout(this.#silence);
    this.#silence = this.#environment.setTimeout(() => {
      this.expectFrame();
      this.request("ping").catch(() => {});
    }, this.#pingAfterMs);
  }

  #closed(code: number): void {
    const said = code === 1000 ? this.#reason : undefined;
    if (said && closingErrors.has(said.code)) this.#end(said);
    else this.#end(new BelfryError("DISCONNECTED", `closed with ${code}`), adviceAfter(code));
  }

  /** No answer came in time. */
  #fail(advice: Advice = adviceAfter(ABNORMAL)): void {
    this.#end(new BelfryError("DISCONNECTED", "no answer"), advice);
  }

  #end(error: BelfryError, advice: Advice = error.advice): void {
    if (!this.#finish()) return;
    this.#link.close();
    this.#events.ended({ error, advice });
  }

  /** Settles everything. Returns whether the connection was open. */
  #finish(): boolean {
    if (this.#hasEnded) return false;
    this.#hasEnded = true;
    this.#pacer.stop();
    for (const timer of [this.#handshake, this.#silence, this.#probe]) this.#environment.clearTimeout(timer);
    for (const id of this.#pending.keys()) this.#settle(id)?.reject(disconnected());
    return true;
  }
}

/** How long a token or a connection lives on, by the server's clock. */
export function remaining(frame: ServerFrame, until: string): number {
  return between(frame.timestamp, until);
}

export function disconnected(): BelfryError {
  return new BelfryError("DISCONNECTED", "the connection was closed");
}
