import type { Action, CallArguments, ResultOf } from "./calls.js";
import { Channel } from "./channel.js";
import { disconnected, type Replies } from "./connection.js";
import { Connector } from "./connector.js";
import { Emitter } from "./emitter.js";
import { defaultEnvironment, type Environment, type WebSocketConstructor } from "./environment.js";
import { BelfryError } from "./errors.js";
import type { FallbackPart } from "./fallback-part.js";
import { isMessage } from "./frame.js";
import type { ClientFrames, KeptFrame, ServerFrame, ServerFrames } from "./generated/frames.js";
import { type Kind, type Message, messageOf } from "./kinds.js";
import type { LocksPart } from "./lock-part.js";
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
  lost: LostIn;
}

/** Messages of one channel that are gone. */
export interface LostIn extends Lost {
  /** Its name, or `@me` or `@all`. */
  readonly channel: string;
  /** Whether notifications may be among them: those to the user, to everyone, or in a channel that a rule subscribes to. */
  readonly isNotified: boolean;
}

const EVENTS: ReadonlySet<string> = new Set<keyof BelfryEvents>(["status", "notification", "lost"]);
const NAME = /^(@me|@all|[\w.=,;+~-][\w.=,;+~@-]*(:[\w.=,;+~@-]+)*)$/;
const OWN = ["@me", "@all"];

type News = PresenceFrame | ServerFrames["lock.changed"];

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
  #seen = new Seen();
  readonly #publishTimeoutMs: number;
  readonly #parts: Pick<BelfryOptions, "presence" | "locks">;
  /** The channels whose notifications reach the client's own listeners: `@me`, `@all`, and those that rules subscribe to. */
  #heard: ReadonlySet<string> = new Set(OWN);
  #status: Status = { state: "connecting" };

  constructor(options: BelfryOptions) {
    const url = new URL(String(options.url));
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
        hello: () => this.#subscriptions.hello(),
        switched: () => {
          this.#subscriptions.switched();
          this.#seen = new Seen();
          this.#drop(new BelfryError("CLOSED", "another user has connected"));
        },
        ready: (connection, frame, early) => {
          const before = this.#heard;
          const adopted = frame.data.autoSubscribed ?? [];
          // Over HTTP, rules subscribe to nothing.
          if (!frame.data.connectionId.startsWith("http:"))
            this.#heard = new Set([...OWN, ...adopted.map(({ channel }) => channel)]);
          this.#subscriptions.ready(
            connection,
            frame,
            adopted.map((one) => [this.#opened(one.channel).subscription, one]),
            () => {
              for (const one of early) this.#received(one);
            },
          );
          for (const name of before) if (!this.#heard.has(name)) this.#channels.get(name)?.channel.release();
          this.#queue.flush();
        },
        received: (frame) => this.#received(frame),
        lost: () => this.#subscriptions.lost(),
        probe: () => this.#subscriptions.sync(),
        stopped: (error) => this.#stopped(error),
      },
    );
    this.#queue = new PublishQueue(environment, options.maxQueued ?? 100, () => this.#connector.connection);
    for (const address of OWN) this.#subscriptions.add(this.#opened(address).subscription);
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
    const { channel, subscription } = this.#opened(name);
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
    return (await this.#request("call", { action, data })).data as ResultOf<A>;
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

  async #request<T extends keyof Replies>(type: T, data: ClientFrames[T]["data"]): Promise<ServerFrames[Replies[T]]> {
    const { connection } = this.#connector;
    if (!connection) throw disconnected();
    return connection.request(type, data);
  }

  #opened(name: string): Opened {
    return this.#channels.get(name) ?? this.#open(name);
  }

  #open(name: string): Opened {
    const subscription = new Subscription(
      name,
      this.#environment,
      async (channel, after) => (await this.#request("history", { channel, after, limit: 300 })).data,
      {
        status: (...status) => channel.changed(...status),
        subscribed: (...state) => channel.subscribed(...state),
        delivered: (frame) => this.#deliver(channel, frame),
        lost: (lost) => {
          channel.emit("lost", lost);
          this.#events.emit("lost", { ...lost, channel: name, isNotified: this.#heard.has(name) });
        },
      },
    );
    const subscribe = async () => {
      if (this.#channels.get(name)?.channel !== channel) throw new BelfryError("CLOSED", "the channel was closed");
      this.#subscriptions.add(subscription);
      this.#assertOpen();
      await subscription.whenSubscribed();
    };
    const channel: Channel = new Channel(name, {
      environment: this.#environment,
      subscribe,
      request: (type, data) => this.#request(type, data),
      parts: this.#parts,
      publish: async (data) => {
        this.#assertOpen();
        return this.#queue.publish({ messageId: this.#environment.randomId(), ...data }, this.#publishTimeoutMs);
      },
      subscription,
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

  #received(frame: ServerFrame): void {
    if (frame.type === "unsubscribed") this.#subscriptions.unsubscribed(frame);
    else if (isMessage(frame)) this.#message(frame);
    else if (/^(presence|lock)\../.test(frame.type))
      this.#channels.get((frame as News).data.channel)?.channel.told(frame as News);
  }

  #message(frame: KeptFrame): void {
    const subscription = this.#subscriptions.get(frame.channel ?? "");
    // The order of positions shows repetitions, where there is one.
    if (!(subscription && frame.position) && this.#seen.has(frame)) return;
    if (subscription) subscription.recovery.receive(frame);
    else if (frame.type === "notification") this.#notify(messageOf(frame));
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

  #assertOpen(): void {
    if (this.#status.state === "closed") throw this.#status.error ?? new BelfryError("CLOSED", "the client was closed");
  }

  #changed(status: Status): void {
    this.#status = status;
    this.#events.emit("status", status);
  }

  #stopped(error: BelfryError): void {
    this.#subscriptions.stopped(error);
    this.#drop(error);
    this.#changed({ state: "closed", ...(error.code !== "CLOSED" && { error }) });
  }

  /** Drops what was begun for the user. */
  #drop(error: BelfryError): void {
    for (const { channel } of this.#channels.values()) channel.stopped(error);
    this.#queue.clear(error);
  }
}
