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
import { Shared } from "./shared.js";
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
  readonly state: Store<ChannelState> = new Store<ChannelState>(SUBSCRIBING);
  /** Oldest first. */
  readonly messages: Store<readonly Message[]> = new Store(NO_MESSAGES);
  readonly presence: Store<PresenceState> = new Store<PresenceState>(NOBODY);
  readonly locks: Shared<SharedLock> = new Shared(
    (name) => new SharedLock(name, () => this.channel),
    (lock) => lock.end(),
  );
  readonly #received = new Listeners<Message>();
  readonly #lost = new Listeners<Lost>();
  readonly #wishes = new Set<Wish>();
  #client: Belfry | null;
  #limit = 0;
  #stops: Array<() => void> = [];
  #presence: Presence | undefined;
  /** The server's answer to whether the connection is subscribed, until it comes. */
  #answer: Promise<void> | undefined;

  readonly onMessage: Listeners<Message>["add"] = this.#received.add;
  readonly onLost: Listeners<Lost>["add"] = this.#lost.add;

  constructor(name: string, client: Belfry | null) {
    this.name = name;
    this.#client = client;
    this.#open();
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

  /** Closes the channel of the client before, and uses this one from now on. */
  bind(client: Belfry | null): void {
    const { channel } = this;
    this.#client = client;
    for (const lock of this.locks.all) lock.end();
    this.#detach();
    channel?.close();
    this.state.set(SUBSCRIBING);
    this.messages.set(NO_MESSAGES);
    this.presence.set(NOBODY);
    this.#open();
  }

  /** The client's status has changed. */
  changed({ state }: Status): void {
    if (state !== "connected") this.#report("subscribing");
    this.#open();
    for (const lock of this.locks.all) lock.update();
  }

  /** The options that serve every component. */
  get #options(): ChannelOptions {
    const wishes = [...this.#wishes];
    const infos = wishes.flatMap(({ presence }) => presence ?? []);
    return {
      presence: infos.length > 0 ? Object.assign({}, ...infos) : undefined,
      locks: wishes.some(({ locks }) => locks),
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
    if (!client) return;
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
      channel.on("lock.changed", ({ name }) => this.locks.get(name)?.update()),
      channel.on("error", (error) => {
        this.#report("refused", error);
        for (const lock of this.locks.all) lock.update();
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
