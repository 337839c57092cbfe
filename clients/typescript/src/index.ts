export { Belfry, type BelfryEvents, type BelfryOptions, type LostIn } from "./belfry.js";
export type { Action, CallArguments, CallDataOf, Calls, ResultOf } from "./calls.js";
export { Channel, type ChannelEvents, type PublishArguments, type PublishOptions } from "./channel.js";
export { defaultEnvironment, type Environment, type WebSocketConstructor, type WebSocketLike } from "./environment.js";
export { BelfryError, type ClientErrorCode } from "./errors.js";
export type { FallbackPart } from "./fallback-part.js";
export type { Advice } from "./generated/advice.js";
export type {
  Announcement,
  ErrorCode,
  HeldLock,
  LockChanged,
  Position,
  PresenceInfo,
  Published,
  SetCreated,
  Upload,
} from "./generated/frames.js";
export type { DataOf, Kind, Kinds, Message } from "./kinds.js";
export type { Lock, LockEvents, LockOptions, LocksPart } from "./lock-part.js";
export type { Presence, PresencePart, PresentUser } from "./presence-part.js";
export type { Lost } from "./recovery/ordering.js";
export type { Status } from "./status.js";
export type { ChannelOptions, ChannelStatus } from "./subscription.js";
export type { TokenReason, TokenSource } from "./token.js";
