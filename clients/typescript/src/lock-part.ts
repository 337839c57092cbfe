import type { Replies } from "./connection.js";
import type { Environment } from "./environment.js";
import type { BelfryError } from "./errors.js";
import type { ChannelState, ClientFrames, HeldLock, LockChanged, ServerFrames, Timestamp } from "./generated/frames.js";

/** How to lock. */
export interface LockOptions {
  /** How long the lock lasts if it is not renewed, in seconds: 5 to 300, 30 by default. */
  seconds?: number;
}

/** The events of a lock. */
export interface LockEvents {
  /** The lock is lost. Another one may hold it now. */
  lost: BelfryError;
  /** The lock has a new fencing number, after a reconnect. Another one may have held it meanwhile. */
  regained: number;
}

/** A lock that this client holds. It renews itself until it is released or lost. */
export interface Lock {
  /** Its name in the channel. */
  readonly name: string;
  /** Send it along with what you write: whoever stores that refuses a lower number than it has seen. */
  readonly fencing: number;
  /** `false` after it was released or lost. */
  readonly isHeld: boolean;
  /** Listens to an event. Returns a function that removes the listener. */
  on<E extends keyof LockEvents>(event: E, listener: (value: LockEvents[E]) => void): () => void;
  /** Releases the lock. Resolves when the server has done it. */
  release(): Promise<void>;
}

/** The parts of a client that locks use. */
export interface LocksHost {
  readonly channel: string;
  readonly environment: Environment;
  subscribe(): Promise<void>;
  request<T extends keyof Replies>(type: T, data: ClientFrames[T]["data"]): Promise<ServerFrames[Replies[T]]>;
  changed(change: LockChanged): void;
}

/** The locks of one channel. */
export interface ChannelLocks {
  readonly held: readonly HeldLock[];
  /** Whether the client holds a lock, or asks for one. */
  readonly isUsed: boolean;
  lock(name: string, options: LockOptions): Promise<Lock>;
  /** The server has subscribed the connection, which may hold the locks of the one that it has replaced. */
  subscribed(state: ChannelState, timestamp: Timestamp | undefined, keepsLocks: boolean): void;
  told(frame: ServerFrames["lock.changed"]): void;
  /** The subscription has ended, and every lock with it. Without an error, the application has ended it. */
  ended(error?: BelfryError): void;
}

/** Makes the locks of a channel: `locks` of `@belfry/client/locks`. */
export type LocksPart = (host: LocksHost) => ChannelLocks;
