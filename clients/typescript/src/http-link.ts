import { backoff } from "./backoff.js";
import type { Environment } from "./environment.js";
import { readEvents } from "./event-stream.js";
import type {
  ChannelSince,
  ChannelWanted,
  ClientFrames,
  ErrorCode,
  KeptFrame,
  Since,
  SubscribedTo,
  Welcome,
} from "./generated/frames.js";
import type { Link, LinkEvents } from "./transport.js";
import { ABNORMAL } from "./websocket.js";

/** The most channels of a reader. */
const MAX_CHANNELS = 50;
/** How long a poll waits for a message, in seconds. */
const POLL_S = 20;
/** How long the first event may take. After that, something on the way seems to hold back streams. */
const FIRST_EVENT_MS = 10_000;
/** The longest silence of a stream: the server sends a comment every 15 seconds. */
const SILENCE_MS = 40_000;
/** The longest that a request may take. */
const REQUEST_MS = 30_000;
/** How many requests in a row may fail. */
const MAX_FAILURES = 3;
/** How long after a stream, or a poll that brought nothing, the next one begins. */
const PAUSE_MS = 1_000;
const LIFE_MS = 24 * 60 * 60_000;

/** The outside world of a link. */
export interface HttpWorld {
  readonly environment: Environment;
  readonly reader: string;
  readonly fetch: typeof fetch;
}

/** What the server says of a token. */
type Session = Pick<Welcome, "userId" | "tokenExpiresAt">;

/** The answer to a poll. */
interface Polled extends Session {
  messages: KeptFrame[];
  cursor: string;
  channels: SubscribedTo[];
}

type ClientFrame = ClientFrames[keyof ClientFrames];

/** The server has refused a request. */
class Refusal extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** Carries frames over HTTP: answers those of the client with requests, and reads a stream for those of the server. */
export class HttpLink implements Link {
  readonly #world: HttpWorld;
  readonly #events: LinkEvents;
  /** What has been read of each channel. */
  readonly #cursors = new Map<string, string>();
  #token: string;
  /** What the server has said of the token. */
  #session: Session | undefined;
  #reading = new AbortController();
  readonly #closing = new AbortController();
  #isReading = false;
  #isPolling = false;

  constructor(world: HttpWorld, token: string, events: LinkEvents) {
    this.#world = world;
    this.#token = token;
    this.#events = events;
    queueMicrotask(() => this.#isClosed || events.opened());
  }

  /** The newest token. */
  get token(): string {
    return this.#token;
  }

  send(text: string): void {
    void this.#answer(JSON.parse(text));
  }

  close(): void {
    this.#closing.abort();
    this.#reading.abort();
  }

  get #isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  async #answer(frame: ClientFrame): Promise<void> {
    try {
      const [type, data] = await this.#reply(frame);
      if (type !== "none") this.#receive({ type, data, correlationId: frame.id });
    } catch (error) {
      if (error instanceof Refusal) this.#receive({ ...errorFrame(error), correlationId: frame.id });
      else this.#end(ABNORMAL);
    }
  }

  async #reply(frame: ClientFrame): Promise<[type: string, data?: unknown]> {
    switch (frame.type) {
      case "pong":
        return ["none"];
      case "ping":
        // Finds out whether there is a network.
        await this.#poll([...this.#cursors], 0);
        return ["pong"];
      case "hello": {
        const wanted = frame.data?.subscribe?.channels;
        const subscribed = wanted && { channels: await this.#subscribe(wanted) };
        return ["welcome", { ...(await this.#welcome()), ...(subscribed && { subscribed }) }];
      }
      case "auth.refresh":
        return ["auth.refreshed", await this.#refresh(frame.data.token)];
      case "subscribe":
        return ["subscribed", { channels: await this.#subscribe(frame.data.channels) }];
      case "unsubscribe":
        for (const channel of frame.data.channels) this.#cursors.delete(channel);
        this.#read();
        return ["unsubscribed", frame.data];
      case "publish":
        return ["published", await this.#request("/messages", { method: "POST", body: JSON.stringify(frame.data) })];
      case "history": {
        const { channel, after } = frame.data;
        const [entry] = statesOf(await this.#poll([[channel, cursorOf(after)]], 0));
        if (!entry || "error" in entry) throw new Refusal("INVALID_MESSAGE", "the channel has no history");
        return ["history", entry];
      }
      case "sync":
        return ["synced", { channels: await this.#compare(frame.data.channels) }];
      case "ack":
        // The client says it again, until a WebSocket works.
        throw new Refusal("INTERNAL", "not over HTTP");
      default:
        throw new Refusal("FORBIDDEN", "not over HTTP");
    }
  }

  /** What `welcome` says. */
  async #welcome(): Promise<object> {
    // The server has said it with the channels, unless it has refused all of them.
    this.#session ??= await this.#ask(this.#token);
    const { userId, tokenExpiresAt } = this.#session;
    return {
      connectionId: `http:${this.#world.environment.randomId()}`,
      userId,
      connectedAt: timestamp(),
      tokenExpiresAt,
      connectionExpiresAt: timestamp(LIFE_MS),
      limits: { maxMessageBytes: 98_304, messagesPerMinute: 600 },
    };
  }

  /** Whose token it is, and how long it lasts. */
  #ask(token: string): Promise<Session> {
    return this.#request("/messages", {}, { token }) as Promise<Session>;
  }

  async #refresh(token: string): Promise<object> {
    const session = await this.#ask(token);
    if (session.userId !== this.#session?.userId) {
      const refusal = new Refusal("UNAUTHORIZED", "the token belongs to another user");
      this.#refused(refusal);
      throw refusal;
    }
    this.#token = token;
    this.#session = session;
    this.#read();
    return { tokenExpiresAt: session.tokenExpiresAt };
  }

  async #subscribe(wanted: ChannelWanted[]): Promise<SubscribedTo[]> {
    if (new Set([...this.#cursors.keys(), ...wanted.map(({ channel }) => channel)]).size > MAX_CHANNELS) {
      throw new Refusal("TOO_MANY_CHANNELS", `a reader has at most ${MAX_CHANNELS} channels`);
    }
    const cursors = wanted.map(({ channel, since }): [string, string] => [channel, cursorOf(since)]);
    try {
      const page = await this.#poll(cursors, 0);
      this.#seen(cursors, page.cursor, (_, index) => !("error" in (page.channels[index] ?? { error: true })));
      this.#read();
      return statesOf(page);
    } catch (error) {
      // The answer if the server refuses every channel.
      if (!(error instanceof Refusal) || !/^(FORBIDDEN|INVALID_MESSAGE)$/.test(error.code)) throw error;
      const { code, message } = error;
      return wanted.map(({ channel }) => ({ channel, error: { code, message } }));
    }
  }

  async #compare(known: ChannelSince[]): Promise<object[]> {
    const own = known.filter(({ channel }) => this.#cursors.has(channel));
    const page = await this.#poll(
      own.map(({ channel, since }) => [channel, cursorOf(since)]),
      0,
    );
    const states = new Map(statesOf(page).map((state) => [state.channel, state]));
    return known.map(({ channel, since }) => {
      const state = states.get(channel);
      if (!state || "error" in state) return { channel, subscribed: false };
      const missed = since && (state.recovered === false || (state.messages?.length ?? 0) > 0);
      return { channel, subscribed: true, ...(missed !== undefined && { missed }) };
    });
  }

  /** Reads again, because the channels or the token have changed. */
  #read(): void {
    this.#reading.abort();
    if (!this.#isReading) void this.#run();
  }

  async #run(): Promise<void> {
    this.#isReading = true;
    let failures = 0;
    while (this.#cursors.size > 0 && !this.#isClosed) {
      this.#reading = new AbortController();
      const { signal } = this.#reading;
      let hasMore = false;
      try {
        if (this.#isPolling) hasMore = await this.#readPage(signal);
        else await this.#readStream(signal);
        failures = 0;
      } catch (error) {
        if (signal.aborted) continue;
        if (error instanceof Refusal && error.code !== "INTERNAL" && error.code !== "CHANNEL_BUSY") {
          this.#refused(error);
          return;
        }
        failures += 1;
        if (failures === MAX_FAILURES) {
          this.#end(ABNORMAL);
          return;
        }
      }
      const { environment } = this.#world;
      await this.#wait(failures > 0 ? backoff(failures, environment) : hasMore ? 0 : PAUSE_MS, signal);
    }
    this.#isReading = false;
  }

  /** Returns whether there may be more at once. */
  async #readPage(signal: AbortSignal): Promise<boolean> {
    const cursors = [...this.#cursors];
    const { messages, cursor } = await this.#poll(cursors, POLL_S, signal);
    if (signal.aborted) return false;
    this.#seen(cursors, cursor);
    for (const message of messages) this.#receive(message);
    return messages.length > 0;
  }

  async #readStream(signal: AbortSignal): Promise<void> {
    const { environment, fetch, reader } = this.#world;
    const cursors = [...this.#cursors];
    const stop = new AbortController();
    const abort = () => stop.abort();
    signal.addEventListener("abort", abort);
    let timer = environment.setTimeout(() => {
      this.#isPolling = true;
      abort();
    }, FIRST_EVENT_MS);
    try {
      const options = { headers: this.#headers(), signal: stop.signal };
      const response = await fetch(`${reader}/events?${queryOf(cursors)}`, options);
      if (!response.ok || !response.body) throw await refusalOf(response);
      const heard = () => {
        environment.clearTimeout(timer);
        timer = environment.setTimeout(abort, SILENCE_MS);
      };
      for await (const { id, data } of readEvents(response.body, heard)) {
        if (signal.aborted) return;
        const frame = JSON.parse(data);
        // The client has the answer to its own request. A loss shows as a gap, or with the next `sync`.
        if (frame.type !== "subscribed") this.#events.received(data);
        this.#seen(cursors, id);
        if (frame.type === "error") this.#end(1000);
      }
    } catch (error) {
      // A stream that was held back is no failure.
      if (!this.#isPolling || error instanceof Refusal) throw error;
    } finally {
      environment.clearTimeout(timer);
      signal.removeEventListener("abort", abort);
    }
  }

  #seen(
    cursors: Array<[string, string]>,
    cursor: string,
    isRead: (channel: string, index: number) => boolean = (channel) => this.#cursors.has(channel),
  ): void {
    const parts = cursor.split(",");
    for (const [index, [channel]] of cursors.entries()) {
      if (isRead(channel, index)) this.#cursors.set(channel, parts[index] ?? "-");
    }
  }

  async #poll(cursors: Array<[string, string]>, seconds: number, signal?: AbortSignal): Promise<Polled> {
    const page = (await this.#request(`/messages?${queryOf(cursors)}&wait=${seconds}`, {}, { signal })) as Polled;
    this.#session = page;
    return page;
  }

  async #request(
    path: string,
    options: RequestInit,
    { token, signal = this.#closing.signal }: { token?: string; signal?: AbortSignal | undefined } = {},
  ): Promise<unknown> {
    const { environment, fetch, reader } = this.#world;
    const stop = new AbortController();
    const abort = () => stop.abort();
    signal.addEventListener("abort", abort);
    const timer = environment.setTimeout(abort, REQUEST_MS);
    try {
      const response = await fetch(reader + path, { ...options, headers: this.#headers(token), signal: stop.signal });
      if (!response.ok) throw await refusalOf(response);
      return await response.json();
    } finally {
      environment.clearTimeout(timer);
      signal.removeEventListener("abort", abort);
    }
  }

  #headers(token = this.#token): Record<string, string> {
    return { authorization: `Bearer ${token}` };
  }

  #receive(frame: object): void {
    if (this.#isClosed) return;
    this.#events.received(JSON.stringify({ version: "1.0", timestamp: timestamp(), ...frame }));
  }

  #refused(error: Refusal): void {
    this.#receive(errorFrame(error));
    this.#end(1000);
  }

  #end(code: number): void {
    if (this.#isClosed) return;
    this.close();
    this.#events.closed(code);
  }

  #wait(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const timer = this.#world.environment.setTimeout(resolve, ms);
      signal.addEventListener("abort", () => {
        this.#world.environment.clearTimeout(timer);
        resolve();
      });
    });
  }
}

function statesOf({ channels, messages }: Polled): SubscribedTo[] {
  return channels.map((state) =>
    "error" in state ? state : { ...state, messages: messages.filter(({ channel }) => channel === state.channel) },
  );
}

function cursorOf(since: Since | undefined): string {
  return typeof since === "object" ? `${since.epoch}.${since.seq}` : (since ?? "-");
}

function queryOf(cursors: Array<[string, string]>): string {
  const query = new URLSearchParams(cursors.map(([channel]) => ["channel", channel]));
  if (cursors.length > 0) query.set("cursor", cursors.map(([, part]) => part).join(","));
  return query.toString();
}

function errorFrame({ code, message }: Refusal): object {
  return { type: "error", data: { code, message, timestamp: timestamp() } };
}

async function refusalOf(response: Response): Promise<Refusal> {
  const frame = await response.json().catch(() => undefined);
  const { code = "INTERNAL", message = `HTTP ${response.status}` } = frame?.data ?? {};
  return new Refusal(code, message);
}

function timestamp(inMs = 0): string {
  return new Date(Date.now() + inMs).toISOString();
}
