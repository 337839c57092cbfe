import { backoff } from "./backoff.js";
import { Connection, type End, remaining } from "./connection.js";
import type { Environment } from "./environment.js";
import { BelfryError } from "./errors.js";
import type { HelloData, ServerFrame, ServerFrames } from "./generated/frames.js";
import type { Status } from "./status.js";
import { getToken, type TokenReason, type TokenSource } from "./token.js";
import { type TokenRefresh, tokenRefresh } from "./token-refresh.js";
import type { Transport } from "./transport.js";

/** A connection that lasted this long proves that nothing is wrong. */
const STABLE_MS = 10_000;
/** How long before its end a connection is replaced if the server has not asked for it: at most, and as a share. */
const HANDOVER_MS = 5 * 60_000;
const HANDOVER_SHARE = 0.1;

export interface ConnectorOptions {
  url: string;
  token: TokenSource;
  pingAfterMs: number;
}

export interface ConnectorEvents {
  status(status: Status): void;
  /** The data of `hello` for a new connection. */
  hello(): HelloData;
  /** The new connection belongs to another user than the one before. */
  switched(): void;
  /** A new connection is ready, and has replaced any other. `early`: what it has brought before. */
  ready(connection: Connection, frame: ServerFrames["welcome"], early: ServerFrame[]): void;
  received(frame: ServerFrame): void;
  /** There is no connection any more. */
  lost(): void;
  /** A connection that may be dead should prove that it is not. */
  probe(): void;
  /** The connector has given up, or was closed. */
  stopped(error: BelfryError): void;
}

/** An attempt to connect. */
interface Attempt {
  connection?: Connection;
  /** Frames that came before `welcome`: only that says whose they are. */
  readonly early: ServerFrame[];
}

/** Keeps one connection open: opens it, replaces it before it ends, and opens another after a failure. */
export class Connector {
  readonly #environment: Environment;
  readonly #transport: Transport;
  readonly #options: ConnectorOptions;
  readonly #events: ConnectorEvents;
  #current: Connection | undefined;
  /** The connection that was replaced last. It may still owe answers. */
  #retired: Connection | undefined;
  /** The attempt that runs. Each has its own object, so that an abandoned one is recognized. */
  #attempt: Attempt | undefined;
  #failures = 0;
  /** Handshakes in a row that were refused or failed. */
  #refusals = 0;
  #isRefused = false;
  #lastConnectionId: string | undefined;
  #userId: string | undefined;
  #endWake: (() => void) | undefined;
  #refresh: TokenRefresh | undefined;
  /** The next connection: after a failure, or before the end of the present one. */
  #next: unknown;
  #stable: unknown;

  constructor(environment: Environment, transport: Transport, options: ConnectorOptions, events: ConnectorEvents) {
    this.#environment = environment;
    this.#transport = transport;
    this.#options = options;
    this.#events = events;
  }

  /** The connection, if it is ready. */
  get connection(): Connection | undefined {
    return this.#current;
  }

  start(): void {
    this.#endWake = this.#environment.onWake(() => this.#wake());
    this.#failures = this.#refusals = 0;
    this.#events.status({ state: "connecting" });
    void this.#connect();
  }

  stop(error: BelfryError): void {
    this.#endWake?.();
    this.#clearTimers();
    this.#attempt?.connection?.close();
    this.#attempt = undefined;
    this.#current?.close();
    this.#current = undefined;
    this.#retired?.close();
    this.#events.stopped(error);
  }

  /** Timers may have slept, or the network may have changed. */
  #wake(): void {
    if (this.#current) {
      this.#current.expectFrame();
      this.#events.probe();
    } else if (this.#environment.isOnline()) {
      void this.#connect();
    }
  }

  /** Opens a connection, beside the present one if there is one. */
  async #connect(): Promise<void> {
    if (this.#attempt) return;
    this.#environment.clearTimeout(this.#next);
    const attempt: Attempt = { early: [] };
    this.#attempt = attempt;
    // A browser does not say that the token was refused. Before the third attempt, suspect it.
    const reason: TokenReason = this.#isRefused || this.#refusals >= 2 ? "refused" : "connect";
    try {
      const token = await getToken(this.#environment, this.#options.token, reason);
      if (this.#attempt === attempt) attempt.connection = this.#open(token, attempt);
    } catch (error) {
      if (this.#attempt !== attempt) return;
      this.#attempt = undefined;
      // The error of a WebSocket that cannot be made may repeat the token, so it is not passed on.
      const isKnown = error instanceof BelfryError;
      const failure = isKnown ? error : new BelfryError("TOKEN_UNAVAILABLE", "the token cannot be sent");
      this.#failed({ error: failure, advice: "retryLater" });
    }
  }

  #open(token: string, attempt: Attempt): Connection {
    const request = { url: this.#options.url, token, replaces: this.#lastConnectionId };
    const connection = new Connection(this.#environment, this.#transport, request, this.#options.pingAfterMs, {
      hello: this.#events.hello,
      welcomed: (frame) => {
        if (this.#attempt === attempt) this.#welcomed(connection, frame, attempt.early);
      },
      received: (frame) => this.#received(connection, frame),
      ended: (end) => this.#ended(connection, end),
    });
    return connection;
  }

  #welcomed(connection: Connection, frame: ServerFrames["welcome"], early: ServerFrame[]): void {
    const previous = this.#current;
    this.#clearTimers();
    this.#attempt = undefined;
    this.#current = connection;
    this.#isRefused = false;
    this.#refusals = 0;
    const { connectionId, userId, connectionExpiresAt } = frame.data;
    this.#lastConnectionId = connectionId;
    this.#stable = this.#environment.setTimeout(() => (this.#failures = 0), STABLE_MS);
    this.#refresh = tokenRefresh(this.#environment, this.#options.token, connection);
    this.#refresh.schedule(frame);
    const life = remaining(frame, connectionExpiresAt);
    const ahead = Math.min(HANDOVER_MS, life * HANDOVER_SHARE);
    this.#connectIn(life - ahead);
    this.#retired?.close();
    this.#retired = previous;
    if (this.#userId !== undefined && this.#userId !== userId) {
      previous?.close();
      this.#events.switched();
    } else {
      previous?.retire();
    }
    this.#userId = userId;
    // Listeners learn whose messages will follow. One of them may close the client.
    this.#events.status({ state: "connected", connectionId, userId });
    if (this.#current === connection) this.#events.ready(connection, frame, early);
  }

  #received(connection: Connection, frame: ServerFrame): void {
    // A connection that is not yet ready, or that another one has replaced, still brings messages and news.
    const isOwn = frame.type === "reconnect" || frame.type === "unsubscribed";
    if (isOwn && connection !== this.#current) return;
    // An operator who asks many clients spreads them over some time.
    if (frame.type === "reconnect") {
      if (frame.data.withinMs) this.#connectIn(this.#environment.random() * frame.data.withinMs);
      else void this.#connect();
    } else if (connection === this.#attempt?.connection) this.#attempt.early.push(frame);
    else this.#events.received(frame);
  }

  #ended(connection: Connection, end: End): void {
    if (connection === this.#attempt?.connection) {
      this.#attempt = undefined;
      this.#refusals += 1;
      this.#failed(end);
    } else if (connection === this.#current) {
      this.#current = undefined;
      this.#clearTimers();
      this.#events.lost();
      // A successor is on its way already.
      if (this.#attempt) this.#report(end.error);
      else this.#failed(end);
    }
  }

  /** Follows the advice after a failure. */
  #failed({ error, advice }: End): void {
    if (advice === "giveUp" || advice === "signIn") {
      this.stop(error);
      return;
    }
    if (advice === "refreshToken") this.#isRefused = true;
    this.#failures += 1;
    // Retrying at once after a second failure could become a tight loop.
    const isAtOnce = this.#failures === 1 && advice !== "retryLater";
    const wait = isAtOnce ? 0 : backoff(this.#failures, this.#environment);
    const retryInMs = Math.round(Math.max(wait, error.retryAfterMs ?? 0));
    this.#connectIn(retryInMs);
    if (!this.#current) this.#report(error, retryInMs);
  }

  #connectIn(ms: number): void {
    this.#environment.clearTimeout(this.#next);
    this.#next = this.#environment.setTimeout(() => void this.#connect(), ms);
  }

  #report(error?: BelfryError, retryInMs?: number): void {
    const isOffline = error?.code === "TOKEN_UNAVAILABLE" || !this.#environment.isOnline();
    const state = isOffline ? "offline" : this.#userId === undefined ? "connecting" : "reconnecting";
    this.#events.status({ state, ...(error && { error }), ...(retryInMs !== undefined && { retryInMs }) });
  }

  #clearTimers(): void {
    this.#refresh?.stop();
    for (const timer of [this.#next, this.#stable]) this.#environment.clearTimeout(timer);
  }
}
