import { Emitter } from "./emitter.js";
import type { PresenceInfo, Present, ServerFrames, Timestamp } from "./generated/frames.js";
import type { ChannelPresence, Presence, PresenceFrame, PresentUser } from "./presence-part.js";

/** How much older than a list a change may be that the list does not have yet. Servers' clocks differ, too. */
const SKEW_MS = 10_000;
/** How long a user who has left is remembered: a change that happened before may arrive later. */
const REMEMBERED_MS = 60_000;

interface Known {
  /** `undefined`: the user has left. */
  info: PresenceInfo | undefined;
  /** When that was, by the server's clock. */
  at: number;
}

/** Merges the server's lists of a channel with the changes that it is told, which come in any order. */
export class PresenceList implements ChannelPresence {
  members: readonly PresentUser[] = [];
  count = 0;
  hasMore = false;
  readonly #events = new Emitter();
  readonly #users = new Map<string, Known>();
  readonly #read: () => Promise<ServerFrames["presence"]>;
  /** The list has everything that happened before. */
  #completeUntil = 0;
  /** When the users of the large channel were counted, by the server's clock. */
  #countedAt = 0;

  /** `read` asks the server for the list. */
  constructor(read: () => Promise<ServerFrames["presence"]>) {
    this.#read = read;
  }

  on(event: "change", listener: (presence: Presence) => void): () => void {
    return this.#events.on(event, listener);
  }

  /** The server has said who is present. */
  listed({ members, count, more = false }: Present, timestamp: Timestamp | undefined): void {
    this.#completeUntil = Date.parse(timestamp ?? "") - SKEW_MS || 0;
    this.#forget(({ at }) => at < this.#completeUntil);
    for (const { userId, info } of members) {
      if (!this.#users.has(userId)) this.#users.set(userId, { info, at: 0 });
    }
    this.#changed(count, more);
  }

  /** The server has told a change. */
  told({ type, data }: PresenceFrame): void {
    const { userId, info = {}, count } = data;
    const at = Date.parse(data.at);
    if (userId === undefined) {
      if (at < Math.max(this.#countedAt, this.#completeUntil)) return;
      this.#countedAt = at;
      // A list of a large channel is as long as lists get. If the channel is not large any more, another one has all.
      if (!this.hasMore || count <= this.members.length) this.#ask();
      this.#changed(count, true);
      return;
    }
    if (at < Math.max(this.#users.get(userId)?.at ?? 0, this.#completeUntil)) return;
    // The server tells of single users again, but has not told of all who came and went before.
    if (this.hasMore) this.#ask();
    this.#users.set(userId, { info: type === "presence.left" ? undefined : info, at });
    this.#forget((known) => !known.info && known.at < at - REMEMBERED_MS);
    this.#changed(count, this.hasMore);
  }

  /** Changes have been missed: the next list holds over those that were told before. */
  interrupt(): void {
    for (const known of this.#users.values()) known.at = 0;
  }

  /** The server tells no more. */
  clear(): void {
    this.#users.clear();
    this.#changed(0, false);
  }

  #ask(): void {
    this.interrupt();
    // If there is no answer, the next change will ask again.
    this.#read().then(
      ({ data, timestamp }) => this.listed(data, timestamp),
      () => {},
    );
  }

  #forget(isObsolete: (known: Known) => boolean): void {
    for (const [userId, known] of this.#users) if (isObsolete(known)) this.#users.delete(userId);
  }

  #changed(count: number, hasMore: boolean): void {
    this.members = [...this.#users].flatMap(([userId, { info }]) => (info ? [{ userId, info }] : []));
    this.hasMore = hasMore;
    this.count = hasMore ? count : this.members.length;
    this.#events.emit("change", this);
  }
}
