import {
  type Belfry,
  BelfryError,
  type Channel,
  type ChannelOptions,
  type Lost,
  type Message,
  type Presence,
  type Status,
} from "@belfry/client";
import { Listeners } from "./listeners.js";
import { SharedLock } from "./shared-lock.js";
import { Store } from "./store.js";

/** What one component wants of a channel. */
export interface Wish extends ChannelOptions {
  /** The most messages to keep. */
  limit?: number;
}

/** Whether the server delivers the channel's messages. */
export interface ChannelState {
  readonly status: "subscribing" | "subscribed" | "refused";
  /** Why the server refuses. */
  readonly error: BelfryError | undefined;
  readonly channel: Channel | null;
}

/** Who is present in a channel. */
export type PresenceState = Pick<Presence, "members" | "count" | "hasMore">;

export const SUBSCRIBING: ChannelState = { status: "subscribing", error: undefined, channel: null };
export const NO_MESSAGES: readonly Message[] = [];
export const NOBODY: PresenceState = { members: [], count: 0, hasMore: false };

/** A channel that several components share. */
export class SharedChannel {
  readonly name: string;
  readonly state = new Store<ChannelState>(SUBSCRIBING);
  /** Oldest first. */
  readonly messages = new Store<readonly Message[]>(NO_MESSAGES);
  readonly presence = new Store<PresenceState>(NOBODY);
  readonly #received = new Listeners<Message>();
  readonly #lost = new Listeners<Lost>();
  readonly #wishes = new Set<Wish>();
  readonly #locks = new Map<string, SharedLock>();
  #client: Belfry | undefined;
  #limit = 0;
  #stops: Array<() => void> = [];
  #presence: Presence | undefined;
  /** The server's answer to whether the connection is subscribed, until it comes. */
  #answer: Promise<void> | undefined;
  /** How many components have joined. */
  members = 0;

  readonly onMessage = this.#received.add;
  readonly onLost = this.#lost.add;

  constructor(name: string) {
    this.name = name;
  }

  get channel(): Channel | null {
    return this.state.get().channel;
  }

  /** Adds what a component wants. Returns a function that takes it back. */
  wish(wish: Wish): () => void {
    this.#wishes.add(wish);
    this.#configure();
    return () => {
      this.#wishes.delete(wish);
      // A component that changes its wish takes the old one back first.
      queueMicrotask(() => this.#configure());
    };
  }

  /** Joins a lock, which components share, too. Returns a function to leave it: the last one to leave releases it. */
  joinLock(name: string): { lock: SharedLock; leave: () => void } {
    const known = this.#locks.get(name);
    const lock = known ?? new SharedLock(name, () => this.channel);
    lock.members += 1;
    this.#locks.set(name, lock);
    if (!known) this.#configure();
    const leave = () => {
      lock.members -= 1;
      queueMicrotask(() => {
        if (lock.members > 0 || this.#locks.get(name) !== lock) return;
        this.#locks.delete(name);
        lock.end();
        this.#configure();
      });
    };
    return { lock, leave };
  }

  peekLock(name: string): SharedLock | undefined {
    return this.#locks.get(name);
  }

  /** Uses this client from now on. */
  bind(client: Belfry): void {
    this.unbind();
    this.#client = client;
    this.#open();
  }

  /** Closes the client's channel. */
  unbind(): void {
    const { channel } = this;
    this.#client = undefined;
    for (const lock of this.#locks.values()) lock.end();
    this.#detach();
    channel?.close();
    this.state.set(SUBSCRIBING);
    this.messages.set(NO_MESSAGES);
    this.presence.set(NOBODY);
  }

  /** The client's status has changed. */
  changed({ state }: Status): void {
    if (state !== "connected") this.#report("subscribing");
    this.#open();
    for (const lock of this.#locks.values()) lock.update();
  }

  /** The options that serve every component. */
  get #options(): ChannelOptions {
    const wishes = [...this.#wishes];
    const infos = wishes.flatMap(({ presence }) => presence ?? []);
    return {
      presence: infos.length > 0 ? Object.assign({}, ...infos) : undefined,
      locks: wishes.some(({ locks }) => locks) || this.#locks.size > 0,
      ...(wishes.some(({ since }) => since) && { since: "acked" as const }),
    };
  }

  #configure(): void {
    const limit = Math.max(0, ...[...this.#wishes].map(({ limit = 0 }) => limit));
    this.#limit = limit;
    this.messages.set(newest(this.messages.get(), limit));
    this.#open();
  }

  #open(): void {
    const client = this.#client;
    // A client that is closed would make a channel that nobody closes.
    if (!client || client.status.state === "closed") return;
    const options = this.#options;
    let channel: Channel;
    try {
      channel = client.channel(this.name, options);
    } catch (error) {
      // The name may come from an address that a user has typed.
      this.#report("refused", new BelfryError("INVALID_MESSAGE", String((error as Error).message)));
      return;
    }
    // After `close`, the client makes another channel.
    if (channel !== this.channel) this.#attach(channel);
    if (options.presence) this.#watchPresence(channel);
    this.#follow(channel);
  }

  #attach(channel: Channel): void {
    this.#detach();
    this.#stops = [
      channel.on("message", (message) => this.#receive(message)),
      channel.on("lost", this.#lost.tell),
      channel.on("lock.changed", ({ name }) => this.#locks.get(name)?.update()),
      channel.on("error", (error) => {
        this.#report("refused", error);
        for (const lock of this.#locks.values()) lock.update();
      }),
    ];
    this.state.set({ ...SUBSCRIBING, channel });
  }

  #detach(): void {
    for (const stop of this.#stops.splice(0)) stop();
    this.#answer = undefined;
    this.#presence = undefined;
  }

  #watchPresence({ presence }: Channel): void {
    if (presence === this.#presence) return;
    this.#presence = presence;
    const read = () =>
      this.presence.set({ members: presence.members, count: presence.count, hasMore: presence.hasMore });
    this.#stops.push(presence.on("change", read));
    read();
  }

  /** Finds out when the server has subscribed the connection. */
  #follow(channel: Channel): void {
    if (this.#answer || this.state.get().status === "subscribed") return;
    const answer = channel.subscribe();
    this.#answer = answer;
    const settle = (isSubscribed: boolean) => {
      if (this.#answer !== answer) return;
      this.#answer = undefined;
      if (isSubscribed && this.#client?.status.state === "connected") this.#report("subscribed");
    };
    // The event `error` reports a refusal, and the client's status that it was closed.
    answer.then(
      () => settle(true),
      () => settle(false),
    );
  }

  #receive(message: Message): void {
    // An `ack` that is refused is reported as an error, too, but it ends nothing.
    if (this.state.get().status === "refused") this.#report("subscribed");
    this.messages.set(newest([...this.messages.get(), message], this.#limit));
    this.#received.tell(message);
  }

  #report(status: ChannelState["status"], error?: BelfryError): void {
    const before = this.state.get();
    if (before.status !== status || before.error !== error) this.state.set({ ...before, status, error });
  }
}

/** The last of these, at most so many. The same array if that is all of them. */
export function newest<T>(all: readonly T[], limit: number): readonly T[] {
  return all.length <= limit ? all : all.slice(all.length - limit);
}
