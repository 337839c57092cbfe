import type {
  Belfry,
  BelfryError,
  Channel,
  ChannelOptions,
  ChannelStatus,
  Lost,
  Message,
  Presence,
} from "@belfry/client";
import { errorOf } from "./errors.js";
import { Listeners } from "./listeners.js";
import type { Session } from "./session.js";
import { Shared } from "./shared.js";
import { SharedLock } from "./shared-lock.js";
import { Store } from "./store.js";

/** What one component asks of a channel. */
export interface Request extends ChannelOptions {
  /** The most messages to keep. */
  readonly limit: number;
}

/** Whether the server delivers the channel's messages. */
export interface ChannelState {
  readonly status: ChannelStatus["state"];
  /** Why the server refuses. */
  readonly error: BelfryError | undefined;
  readonly channel: Channel | null;
}

/** A message, or a loss. Without one, what was lost concerned another user. */
export type ChannelEvent = { message: Message } | { lost: Lost | null };

/** Who is present in a channel. */
export type PresenceState = Pick<Presence, "members" | "count" | "hasMore">;

export const SUBSCRIBING: ChannelState = { status: "subscribing", error: undefined, channel: null };
export const NO_MESSAGES: readonly Message[] = [];
export const NOBODY: PresenceState = { members: [], count: 0, hasMore: false };

/** A channel that several components share. */
export class SharedChannel {
  readonly name: string;
  readonly state: Store<ChannelState> = new Store<ChannelState>(SUBSCRIBING);
  /** Oldest first. */
  readonly messages: Store<readonly Message[]> = new Store(NO_MESSAGES);
  readonly presence: Store<PresenceState> = new Store<PresenceState>(NOBODY);
  readonly locks: Shared<SharedLock> = new Shared(
    (name) => new SharedLock(name, this),
    (lock) => lock.end(),
  );
  readonly #told = new Listeners<ChannelEvent>();
  readonly #requests = new Set<Request>();
  readonly #session: Session;
  #client: Belfry | null | undefined;
  /** The options that the client's channel has from here. Others may be the application's. */
  #options: ChannelOptions = {};
  #stops: Array<() => void> = [];
  #presence: Presence | undefined;

  readonly on: Listeners<ChannelEvent>["add"] = this.#told.add;

  constructor(name: string, session: Session) {
    this.name = name;
    this.#session = session;
    this.#client = session.client.get();
    this.update();
  }

  get channel(): Channel | null {
    return this.state.get().channel;
  }

  /** The client's channel, as soon as there is a client. */
  async opened(): Promise<Channel> {
    return (await this.#session.ready()).channel(this.name);
  }

  /** Adds what a component asks for. Returns a function that takes it back. */
  request(request: Request): () => void {
    this.#requests.add(request);
    this.update();
    return () => {
      this.#requests.delete(request);
      // A component that changes its request takes the old one back first.
      queueMicrotask(() => this.update());
    };
  }

  /** Leaves the channel of the client before, and uses this one's from now on. */
  bind(client: Belfry | null): void {
    this.#detach();
    if (this.channel) {
      for (const lock of this.locks.all) lock.end();
      this.#give({})?.release();
    }
    this.#client = client;
    this.state.set(SUBSCRIBING);
    this.messages.set(NO_MESSAGES);
    this.presence.set(NOBODY);
    this.update();
  }

  /** Another user has connected. */
  forget(): void {
    this.messages.set(NO_MESSAGES);
    this.#told.tell({ lost: null });
  }

  /** The client, or what components ask for, has changed. */
  update(): void {
    const options: ChannelOptions = {};
    for (const { presence, locks, since } of this.#requests) {
      if (presence) options.presence = { ...options.presence, ...presence };
      Object.assign(options, locks && { locks }, since && { since });
    }
    try {
      // A client without the part `presence` throws.
      const presence = options.presence && this.#client?.channel(this.name).presence;
      const channel = this.#give(options);
      // After `close`, the client makes another channel.
      if (channel && channel !== this.channel) this.#attach(channel);
      if (presence) this.#watch(presence);
    } catch (error) {
      // The name may come from an address that a user has typed.
      this.#detach();
      this.state.set({ status: "refused", error: errorOf(error), channel: null });
    }
    for (const lock of this.locks.all) lock.update();
  }

  /** Changes the options that the client's channel has from here. */
  #give(options: ChannelOptions): Channel | undefined {
    const none = Object.fromEntries(Object.keys(this.#options).map((key) => [key, undefined]));
    this.#options = options;
    return this.#client?.channel(this.name, { ...none, ...options });
  }

  #attach(channel: Channel): void {
    this.#detach();
    const follow = ({ state, error }: ChannelStatus) => {
      this.state.set({ status: state, error, channel });
      for (const lock of this.locks.all) lock.update();
    };
    this.#stops = [
      channel.on("status", follow),
      channel.on("message", (message) => {
        const limits = [...this.#requests].map(({ limit }) => limit);
        this.messages.set(newest([...this.messages.get(), message], Math.max(0, ...limits)));
        this.#told.tell({ message });
      }),
      channel.on("lost", (lost) => this.#told.tell({ lost })),
      channel.on("lock.changed", ({ name }) => this.locks.get(name)?.update()),
    ];
    follow(channel.status);
  }

  #detach(): void {
    for (const stop of this.#stops.splice(0)) stop();
    this.#presence = undefined;
  }

  #watch(presence: Presence): void {
    if (presence === this.#presence) return;
    this.#presence = presence;
    const read = ({ members, count, hasMore }: Presence) => this.presence.set({ members, count, hasMore });
    this.#stops.push(presence.on("change", read));
    read(presence);
  }
}

/** The last of these, at most so many. The same array if that is all of them. */
export function newest<T>(all: readonly T[], limit: number): readonly T[] {
  return all.length <= limit ? all : all.slice(all.length - limit);
}
