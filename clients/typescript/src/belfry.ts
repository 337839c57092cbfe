import type { Action, CallArguments, ResultOf } from "./calls.js";
import { Channel } from "./channel.js";
import { Connector } from "./connector.js";
import { Emitter } from "./emitter.js";
import { defaultEnvironment, type Environment, type WebSocketConstructor } from "./environment.js";
import { BelfryError } from "./errors.js";
import type { FallbackPart } from "./fallback-part.js";
import { isMessage } from "./frame.js";
import type { AutoSubscribed, KeptFrame, ServerFrame, ServerFrames } from "./generated/frames.js";
import { type Kind, type Message, messageOf } from "./kinds.js";
import type { LocksHost, LocksPart } from "./lock-part.js";
import type { PresenceFrame, PresencePart } from "./presence-part.js";
import { PublishQueue } from "./queue.js";
import type { Lost } from "./recovery/ordering.js";
import { Seen } from "./recovery/seen.js";
import type { Status } from "./status.js";
import { type ChannelOptions, Subscription } from "./subscription.js";
import { Subscriptions } from "./subscriptions.js";
import type { TokenSource } from "./token.js";
import { webSocketTransport } from "./websocket.js";

/** Options of a client. */
export interface BelfryOptions {
  /** The stack's WebSocket URL, such as `wss://….execute-api.eu-west-1.amazonaws.com/prod`. */
  url: string | { readonly href: string };
  /** Gets a token. The client asks before each connection, and again before the token expires. */
  token: TokenSource;
  /** The most messages that wait to be published: 100 by default. */
  maxQueued?: number;
  /** How long `publish` tries: 60,000 ms by default. */
  publishTimeoutMs?: number;
  /** How long the connection may be silent before the client sends `ping`: 60,000 ms by default. */
  pingAfterMs?: number;
  /** What channels need to show who is present: `presence` of `@belfry/client/presence`. */
  presence?: PresencePart;
  /** What channels need to lock: `locks` of `@belfry/client/locks`. */
  locks?: LocksPart;
  /** What to use where WebSockets are blocked: `http` of `@belfry/client/http`. */
  fallback?: FallbackPart;
  /** An implementation of `WebSocket`, if the runtime has none. Node has one from version 22 on. */
  WebSocket?: WebSocketConstructor;
  /** The outside world, for tests. */
  environment?: Environment;
}

/** The events of a client besides its kinds. */
export interface BelfryEvents {
  /** The state of the connection has changed. */
  status: Status;
  /** Every notification to the user, to everyone, or in a channel that a rule subscribes to, of whatever kind. */
  notification: Message;
  /** Messages of a channel, of `@me` or `@all` are gone. Fetch the state again. */
  lost: Lost & { readonly channel: string };
}

const EVENTS: ReadonlySet<string> = new Set<keyof BelfryEvents>(["status", "notification", "lost"]);
const NAME = /^(@me|@all|[\w.=,;+~-][\w.=,;+~@-]*(:[\w.=,;+~@-]+)*)$/;
const OWN = ["@me", "@all"];

interface Opened {
  channel: Channel;
  subscription: Subscription;
}

/**
 * A client of a Belfry stack. It connects at once and stays connected until it is closed.
 *
 * ```ts
 * const belfry = new Belfry({ url, token: async () => (await fetchAuthSession()).tokens?.accessToken.toString() });
 * belfry.on("upload.completed", ({ data }) => console.log(data.file));
 * ```
 */
export class Belfry {
  readonly #environment: Environment;
  readonly #events = new Emitter();
  readonly #kinds = new Emitter();
  readonly #channels = new Map<string, Opened>();
  readonly #subscriptions: Subscriptions;
  readonly #connector: Connector;
  readonly #queue: PublishQueue;
  readonly #seen = new Seen();
  readonly #publishTimeoutMs: number;
  readonly #parts: Pick<BelfryOptions, "presence" | "locks">;
  /** The channels whose notifications reach the client's own listeners: `@me`, `@all`, and those that rules subscribe to. */
  readonly #heard = new Set(OWN);
  /** Messages that came before `welcome`, which may name their channels. */
  #early: KeptFrame[] = [];
  #status: Status = { state: "connecting" };
  #userId: string | undefined;

  constructor(options: BelfryOptions) {
    const url = new URL(typeof options.url === "string" ? options.url : options.url.href);
    if (!/^wss?:$/.test(url.protocol)) throw new TypeError("the URL must begin with wss: or ws:");
    const environment = options.environment ?? defaultEnvironment();
    const WebSocket = options.WebSocket ?? environment.WebSocket;
    if (!WebSocket) throw new TypeError("this runtime has no WebSocket: pass one in");
    this.#environment = environment;
    this.#parts = options;
    this.#publishTimeoutMs = options.publishTimeoutMs ?? 60_000;
    this.#subscriptions = new Subscriptions(environment);
    const { token, pingAfterMs = 60_000 } = options;
    const transport = webSocketTransport(WebSocket);
    this.#connector = new Connector(
      environment,
      options.fallback?.(transport, environment) ?? transport,
      { url: url.href, token, pingAfterMs },
      {
        status: (status) => this.#changed(status),
        hello: () => {
          this.#early = [];
          return this.#subscriptions.hello();
        },
        ready: (connection, frame) => {
          this.#welcomed(frame);
          this.#subscriptions.ready(connection, frame);
          this.#adopt(frame.data.autoSubscribed ?? []);
          this.#queue.flush();
        },
        received: (frame) => this.#received(frame),
        lost: () => this.#subscriptions.lost(),
        probe: () => this.#subscriptions.sync(),
        stopped: (error) => this.#stopped(error),
      },
    );
    this.#queue = new PublishQueue(environment, options.maxQueued ?? 100, () => this.#connector.connection);
    for (const address of OWN) this.#subscriptions.add(this.#open(address).subscription);
    this.#connector.start();
  }

  /** The state of the connection. The event `status` reports changes. */
  get status(): Status {
    return this.#status;
  }

  /**
   * Listens to an event, or to the notifications of one kind that are for the user, for everyone, or in a channel that a
   * rule subscribes to. Returns a function that removes the listener.
   */
  on<E extends keyof BelfryEvents>(event: E, listener: (value: BelfryEvents[E]) => void): () => void;
  on<K extends Kind>(kind: K, listener: (notification: Message<K>) => void): () => void;
  on(name: string, listener: (value: never) => void): () => void {
    return (EVENTS.has(name) ? this.#events : this.#kinds).on(name, listener);
  }

  /**
   * A channel by its name: always the same one, until it is closed. Options change those that were given before. With
   * `presence` or `locks`, it subscribes at once.
   */
  channel(name: string, options: ChannelOptions = {}): Channel {
    if (name.length > 128 || !NAME.test(name)) throw new TypeError(`invalid channel name: ${JSON.stringify(name)}`);
    const { channel, subscription } = this.#channels.get(name) ?? this.#open(name);
    const isChanged = subscription.configure(options);
    const isWanted = options.presence || options.locks;
    if (isChanged && (isWanted || this.#subscriptions.get(name))) this.#subscriptions.add(subscription, true);
    return channel;
  }

  /**
   * Has the application's function do something, and resolves with what it returned. Rejects if there is no connection:
   * a call is neither kept nor repeated. After `CALL_FAILED`, `TIMEOUT` and `DISCONNECTED`, it may have acted.
   */
  async call<A extends Action>(action: A, ...[data]: CallArguments<A>): Promise<ResultOf<A>> {
    return (await this.#subscriptions.request("call", { action, data })).data as ResultOf<A>;
  }

  /** Connects again after the state `closed`, for example when the user has signed in again. */
  connect(): void {
    if (this.#status.state === "closed") this.#connector.start();
  }

  /** Closes the connection and every channel. Messages that wait to be published are rejected with `CLOSED`. */
  close(): void {
    for (const [name, { channel }] of [...this.#channels]) if (!OWN.includes(name)) channel.close();
    if (this.#status.state !== "closed") this.#connector.stop(new BelfryError("CLOSED", "the client was closed"));
  }

  #open(name: string): Opened {
    const subscription = new Subscription(
      name,
      this.#environment,
      async (channel, after) => (await this.#subscriptions.request("history", { channel, after, limit: 300 })).data,
      {
        subscribed: (...state) => channel.subscribed(...state),
        interrupted: () => channel.interrupted(),
        delivered: (frame) => this.#deliver(channel, frame),
        lost: (lost) => {
          channel.emit("lost", lost);
          this.#events.emit("lost", { ...lost, channel: name });
        },
        refused: (error) => channel.refused(error),
      },
    );
    const subscribe = async () => {
      if (this.#channels.get(name)?.channel !== channel) throw new BelfryError("CLOSED", "the channel was closed");
      this.#subscriptions.add(subscription);
      if (this.#status.state === "closed") throw closedBy(this.#status);
      await subscription.whenSubscribed();
    };
    const request: LocksHost["request"] = (type, data) => this.#subscriptions.request(type, data);
    const channel: Channel = new Channel(name, {
      environment: this.#environment,
      subscribe,
      request,
      presence: () => this.#parts.presence?.(() => request("presence", { channel: name })),
      locks: (changed) =>
        this.#parts.locks?.({ channel: name, environment: this.#environment, subscribe, request, changed }),
      publish: async (data) => {
        if (this.#status.state === "closed") throw closedBy(this.#status);
        return this.#queue.publish({ messageId: this.#environment.randomId(), ...data }, this.#publishTimeoutMs);
      },
      position: () => subscription.recovery.position,
      close: () => {
        if (this.#heard.has(name)) {
          // The client itself needs it.
          this.channel(name, { presence: undefined });
          return;
        }
        this.#channels.delete(name);
        this.#subscriptions.remove(subscription, new BelfryError("CLOSED", "the channel was closed"));
      },
    });
    const opened = { channel, subscription };
    this.#channels.set(name, opened);
    return opened;
  }

  #welcomed({ data }: ServerFrames["welcome"]): void {
    // The messages that the first user missed do not concern this one.
    if (this.#userId !== undefined && this.#userId !== data.userId)
      this.#channels.get("@me")?.subscription.recovery.reset();
    this.#userId = data.userId;
  }

  /** Orders and recovers channels that a rule has subscribed the connection to, as if the page had opened them. */
  #adopt(channels: AutoSubscribed[]): void {
    for (const { channel, position } of channels) {
      this.#heard.add(channel);
      this.#subscriptions.adopt((this.#channels.get(channel) ?? this.#open(channel)).subscription, position);
    }
    for (const frame of this.#early.splice(0)) this.#message(frame);
  }

  #received(frame: ServerFrame): void {
    if (frame.type === "unsubscribed") this.#subscriptions.unsubscribed(frame);
    else if (isMessage(frame)) this.#message(frame);
    else if (isNews(frame)) this.#channels.get(frame.data.channel)?.channel.told(frame);
  }

  #message(frame: KeptFrame): void {
    const isKnown = frame.channel !== undefined && this.#subscriptions.get(frame.channel) !== undefined;
    if (!isKnown && frame.position && !this.#connector.connection) {
      this.#early.push(frame);
      return;
    }
    // The order of positions shows repetitions, where there is one.
    if ((!isKnown || !frame.position) && this.#seen.has(frame)) return;
    if (!this.#subscriptions.receive(frame) && frame.type === "notification") this.#notify(messageOf(frame));
  }

  #deliver(channel: Channel, frame: KeptFrame): void {
    const message = messageOf(frame);
    channel.deliver(message);
    if (frame.type === "notification" && this.#heard.has(channel.name)) this.#notify(message);
  }

  #notify(message: Message): void {
    this.#kinds.emit(message.kind, message);
    this.#events.emit("notification", message);
  }

  #changed(status: Status): void {
    this.#status = status;
    this.#events.emit("status", status);
  }

  #stopped(error: BelfryError): void {
    for (const { channel } of this.#channels.values()) channel.stopped(error);
    this.#subscriptions.stopped(error);
    this.#queue.clear(error);
    this.#changed(error.code === "CLOSED" ? { state: "closed" } : { state: "closed", error });
  }
}

function isNews(frame: ServerFrame): frame is PresenceFrame | ServerFrames["lock.changed"] {
  return /^(presence|lock)\../.test(frame.type);
}

function closedBy(status: Status & { state: "closed" }): BelfryError {
  return status.error ?? new BelfryError("CLOSED", "the client was closed");
}
