import type { PresenceInfo, Present, ServerFrames, Timestamp } from "./generated/frames.js";

/** A user who is present in a channel. */
export interface PresentUser {
  readonly userId: string;
  /** What the user last told the others. */
  readonly info: PresenceInfo;
}

/** Who is present in a channel, as far as the server has said. */
export interface Presence {
  /** The users who are present. Another array after each change. In a large channel, some of them. */
  readonly members: readonly PresentUser[];
  /** How many users are present. */
  readonly count: number;
  /** Whether the channel has more users than the server announces. Then `members` does not change. */
  readonly hasMore: boolean;
  /** Listens to changes. Returns a function that removes the listener. */
  on(event: "change", listener: (presence: Presence) => void): () => void;
}

export type PresenceFrame = ServerFrames["presence.joined" | "presence.left" | "presence.updated"];

/** What a channel does with its presence. */
export interface ChannelPresence extends Presence {
  /** The server has said who is present. */
  listed(present: Present, timestamp: Timestamp | undefined): void;
  /** The server has told a change. */
  told(frame: PresenceFrame): void;
  /** Changes have been missed. */
  interrupt(): void;
  /** The server tells no more. */
  clear(): void;
}

/** Makes the presence of a channel: `presence` of `@belfry/client/presence`. `read` asks the server who is present. */
export type PresencePart = (read: () => Promise<ServerFrames["presence"]>) => ChannelPresence;
