import { type Acknowledgement, acknowledgement } from "./acknowledgement.js";
import { Emitter } from "./emitter.js";
import type { Environment } from "./environment.js";
import type { BelfryError } from "./errors.js";
import type {
  ChannelState,
  HeldLock,
  LockChanged,
  Position,
  Publish,
  Published,
  ServerFrames,
  Timestamp,
} from "./generated/frames.js";
import type { DataOf, Kind, Message } from "./kinds.js";
import type { ChannelLocks, Lock, LockOptions, LocksHost, LocksPart } from "./lock-part.js";
import type { ChannelPresence, Presence, PresenceFrame, PresencePart } from "./presence-part.js";
import type { Lost } from "./recovery/ordering.js";
import { Stream } from "./stream.js";
import type { ChannelStatus, Subscription } from "./subscription.js";

/** The events of a channel besides its kinds. */
export interface ChannelEvents {
  /** Every message, of whatever kind. */
  message: Message;
  /** Whether the server delivers the messages has changed. */
  status: ChannelStatus;
  /** Messages are gone. Fetch the state again. */
  lost: Lost;
  /** Another connection has locked something, renewed a lock, or released one. Then there is no `holder`. */
  "lock.changed": LockChanged;
  /** The server refuses the subscription, or has ended it, or refuses an {@link Channel.ack}. */
  error: BelfryError;
}

/** How to publish one message. */
export interface PublishOptions {
  /** The message's id: another message with the same id is not published. The default is a new one. */
  messageId?: string;
  /** `false` keeps the message out of the history. */
  store?: boolean;
  /** `true` delivers the message to this client, too. */
  echo?: boolean;
}

/** The data may be left out if the kind allows it. */
export type PublishArguments<K extends Kind> =
  undefined extends DataOf<K>
    ? [data?: DataOf<K>, options?: PublishOptions]
    : [data: DataOf<K>, options?: PublishOptions];

/** The parts of a client that a channel uses. */
export interface ChannelHost {
  subscribe(): Promise<void>;
  publish(data: Publish): Promise<Published>;
  readonly environment: Environment;
  readonly request: LocksHost["request"];
  readonly parts: { presence?: PresencePart; locks?: LocksPart };
  readonly subscription: Pick<Subscription, "status" | "wanted" | "recovery">;
  close(): void;
}

const EVENTS: ReadonlySet<string> = new Set<keyof ChannelEvents>([
  "message",
  "status",
  "lost",
  "lock.changed",
  "error",
]);

/** An address that many users share. Get one with {@link Belfry.channel}. */
export class Channel implements AsyncIterable<Message> {
  /** Its name, such as `room:7`. */
  readonly name: string;
  readonly #host: ChannelHost;
  readonly #events = new Emitter();
  /** Of its own: anyone who may publish chooses the kind, so a kind must not pass for an event. */
  readonly #kinds = new Emitter();
  readonly #streams = new Set<Stream<Message>>();
  readonly #presence: ChannelPresence | undefined;
  readonly #locks: ChannelLocks | undefined;
  readonly #acknowledgement: Acknowledgement;

  /** @internal */
  constructor(name: string, host: ChannelHost) {
    this.name = name;
    this.#host = host;
    this.#presence = host.parts.presence?.(() => host.request("presence", { channel: name }));
    this.#acknowledgement = acknowledgement(
      host.environment,
      (position) => host.request("ack", { channel: name, ...position }),
      (error) => this.emit("error", error),
    );
    const changed = (change: LockChanged) => this.emit("lock.changed", change);
    this.#locks = host.parts.locks?.({ ...host, channel: name, changed });
  }

  /**
   * Who is present. Known only to those who are present, too: see {@link Belfry.channel}. Needs the option `presence` of
   * the client.
   */
  get presence(): Presence {
    if (!this.#presence) throw missing("presence");
    return this.#presence;
  }

  /** The locks that other connections hold, if the option `locks` of {@link Belfry.channel} asks for them. */
  get locks(): readonly HeldLock[] {
    return this.#locks?.held ?? [];
  }

  /** Whether the server delivers the messages. The event `status` reports changes. */
  get status(): ChannelStatus {
    return this.#host.subscription.status;
  }

  /** The position of the last message that was delivered, if the channel has a history. */
  get position(): Position | undefined {
    return this.#host.subscription.recovery.position;
  }

  /**
   * Listens to an event, or to the messages of one kind. The first listener for messages subscribes to the channel.
   * Returns a function that removes the listener.
   */
  on<E extends keyof ChannelEvents>(event: E, listener: (value: ChannelEvents[E]) => void): () => void;
  on<K extends Kind>(kind: K, listener: (message: Message<K>) => void): () => void;
  on(name: string, listener: (value: never) => void): () => void {
    if (!EVENTS.has(name) || name === "message") this.#host.subscribe().catch(() => {});
    return (EVENTS.has(name) ? this.#events : this.#kinds).on(name, listener);
  }

  /**
   * Subscribes, if nothing else has. Resolves when the server has subscribed the connection: from then on, every message
   * is delivered or reported as lost. Rejects if the server refuses.
   */
  subscribe(): Promise<void> {
    return this.#host.subscribe();
  }

  /**
   * Publishes a message. Waits for a connection if there is none. Resolves when the message is in the history, or was
   * sent to the subscribers if there is no history. Messages of one channel are published in the order of the calls.
   */
  async publish<K extends Kind>(kind: K, ...[data, options]: PublishArguments<K>): Promise<Published> {
    // The application may change its object while the message waits.
    const text = JSON.stringify({ ...options, channel: this.name, kind, data });
    return this.#host.publish(JSON.parse(text));
  }

  /**
   * Says that the user has read every message up to this position: by default, the last one that was delivered. Sends at
   * most one frame a second, and repeats it until the server has it.
   */
  ack(position: Position | undefined = this.position): void {
    if (position && position.seq > 0) this.#acknowledgement.reach(position);
  }

  /**
   * Locks something in the channel, and subscribes to it. The lock renews itself. Rejects with `LOCKED` if another
   * connection holds it: the error has `holder` and `until`. A second call gives the same lock. Needs the option `locks`
   * of the client.
   */
  async lock(name: string, options: LockOptions = {}): Promise<Lock> {
    if (!this.#locks) throw missing("locks");
    return this.#locks.lock(name, options);
  }

  /** The messages, from now on. Ends when the channel is closed, and fails if the loop is too slow. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Message> {
    const stream = new Stream<Message>(() => this.#streams.delete(stream));
    this.#streams.add(stream);
    this.#host.subscribe().catch((error: BelfryError) => stream.end(error));
    return stream.values;
  }

  /** Closes the channel if nothing uses it: no listener, no loop, no lock, and neither `presence` nor `locks`. */
  release(): void {
    const { presence, locks } = this.#host.subscription.wanted;
    const isUsed =
      presence || locks || this.#events.isUsed || this.#kinds.isUsed || this.#streams.size || this.#locks?.isUsed;
    if (!isUsed) this.close();
  }

  /** Ends the subscription and removes every listener. {@link Belfry.channel} makes a new channel. */
  close(): void {
    this.#locks?.ended();
    this.#acknowledgement.stop();
    this.#host.close();
    this.#events.clear();
    this.#kinds.clear();
    for (const stream of [...this.#streams]) stream.end();
  }

  /** @internal */
  deliver(message: Message): void {
    this.#kinds.emit(message.kind, message);
    this.emit("message", message);
    for (const stream of [...this.#streams]) stream.push(message);
  }

  /** @internal */
  changed(status: ChannelStatus, isNew: boolean): void {
    const { state, error } = status;
    if (state === "subscribing") this.#presence?.interrupt();
    if (isNew) this.emit("status", status);
    if (!error) return;
    this.#locks?.ended(error);
    this.#presence?.clear();
    this.emit("error", error);
  }

  /** @internal */
  subscribed(state: ChannelState, timestamp: Timestamp | undefined, keepsLocks: boolean): void {
    const { presence } = state;
    this.#locks?.subscribed(state, timestamp, keepsLocks);
    if (presence) this.#presence?.listed(presence, timestamp);
    else this.#presence?.clear();
  }

  /** @internal */
  stopped(error: BelfryError): void {
    this.#acknowledgement.stop();
    this.#locks?.ended(error);
  }

  /** @internal */
  told(frame: PresenceFrame | ServerFrames["lock.changed"]): void {
    if (frame.type === "lock.changed") this.#locks?.told(frame);
    else this.#presence?.told(frame);
  }

  /** @internal */
  emit<E extends keyof ChannelEvents>(event: E, value: ChannelEvents[E]): void {
    this.#events.emit(event, value);
  }
}

function missing(part: string): TypeError {
  return new TypeError(`pass ${part} of @belfry/client/${part} to the client`);
}
