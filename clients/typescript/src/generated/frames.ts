// Generated from schemas/ by `npm run generate`. Do not edit.

/** The `data` of an `ack` frame: the user has read every message up to a position. */
export interface Ack {
  /** The channel. */
  channel: Address;
  /** The history that the number belongs to. */
  epoch: Epoch;
  /** The number of the last message that was read. */
  seq: number;
}

/** The `data` of an `acked` frame: the user's position, on all devices. */
export interface Acked {
  /** The channel. */
  channel: Address;
  /** The history that the number belongs to. */
  epoch: Epoch;
  /** The message's number: 1 for the first one, and no number is left out. Zero is the position before the first. */
  seq: number;
}

/** `@me` (the user's own connections), `@all` (every connection), or the name of a channel. */
export type Address = string;

/** The data of `system.announcement`: a text to show to users. */
export interface Announcement {
  /** The importance of the announcement. */
  level?: AnnouncementLevel;
  /** The text to show. */
  text: string;
}

/** The importance of an announcement. */
export type AnnouncementLevel = "info" | "warning" | "critical";

/** The `data` of an `auth.refresh` frame. */
export interface AuthRefresh {
  /** The new token. It must belong to the user who opened the connection. */
  token: BearerToken;
}

/** The `data` of an `auth.refreshed` frame. */
export interface AuthRefreshed {
  /** When the session now ends. The server then closes the connection, unless another `auth.refresh` has extended the session. */
  tokenExpiresAt: Timestamp;
}

/** A channel that a rule has subscribed the connection to. */
export interface AutoSubscribed {
  /** The channel. */
  channel: ChannelName;
  /** The channel's newest position: every later message is posted to the connection. Absent if the channel has no history. */
  position?: Position;
}

/** The `data` of a `batch` frame. */
export interface Batch {
  /** The frames that other clients get one by one, in order. */
  messages: Array<KeptFrame>;
}

/** A token of the user pool, as a JWT. */
export type BearerToken = string;

/** The `data` of a `call` frame. */
export interface Call {
  /** What the application is asked to do. */
  action: CallAction;
  /** What it needs for that: any JSON value. */
  data?: unknown;
}

/** The name of something that the application does for clients: 1 to 64 characters of A-Z a-z 0-9 - _ . :. */
export type CallAction = string;

/** Why a client may not subscribe to a channel. */
export interface ChannelError {
  /** What went wrong, for programs. */
  code: ErrorCode;
  /** What went wrong, for people. The text may change. */
  message: string;
}

/** The name of a channel: 1 to 128 characters of A-Z a-z 0-9 - _ . = , ; + ~ @ in segments joined by ":", not beginning with "@". */
export type ChannelName = string;

/** A channel that the client may not subscribe to. */
export interface ChannelRefused {
  /** The channel. */
  channel: Address;
  /** The reason. */
  error: ChannelError;
}

/** A channel, and what the client has seen of it. */
export interface ChannelSince {
  /** The channel. */
  channel: Address;
  /** The position of the last message that the client has seen. */
  since?: Position;
}

/** A channel that the connection is subscribed to. */
export interface ChannelState {
  /** The channel. */
  channel: Address;
  /** The channel's present epoch. */
  epoch?: Epoch;
  /** The locks that are held. Absent if the client did not ask for them. */
  locks?: HeldLocks;
  /** The messages after the position, without a gap. */
  messages?: Array<KeptFrame>;
  /** Whether more messages follow the last one: ask for them with `history`. */
  more?: boolean;
  /** Who is present. Absent if the client did not ask to be present. */
  presence?: Present;
  /** Only if `recovered` is `false`: why. */
  reason?: NotRecovered;
  /** Only in an answer to a position: whether no message after it is lost. All of them are in `messages` and the pages after it. */
  recovered?: boolean;
  /** The number of the channel's newest message. Zero if there is none. */
  seq?: number;
  /** When the subscription ends, unless the client subscribes again. Absent if it lasts as long as the session. */
  until?: Timestamp;
}

/** A channel to subscribe to. */
export interface ChannelWanted {
  /** The channel. `@me` and `@all` need no subscription; with `since` they recover what was missed. */
  channel: Address;
  /** Whether the answer has the channel's locks that are held. The default is `false`. */
  locks?: boolean;
  /** Makes the user present in the channel, and tells the others this. */
  presence?: PresenceInfo;
  /** The server answers with the messages after this: a position, or what the user has acknowledged. */
  since?: Since;
}

/** The opaque id that API Gateway gives a connection: 1 to 128 visible ASCII characters. */
export type ConnectionId = string;

/** Names one history of a channel: 1 to 64 visible ASCII characters. Positions of different epochs cannot be compared. */
export type Epoch = string;

/** Why the server refused a frame or closes the connection. */
export type ErrorCode = "INVALID_MESSAGE" | "UNSUPPORTED_VERSION" | "UNKNOWN_TYPE" | "MESSAGE_TOO_LARGE" | "RATE_LIMITED" | "TOKEN_EXPIRED" | "UNAUTHORIZED" | "SIGNED_OUT" | "UNKNOWN_CONNECTION" | "RECONNECT" | "CLOSED_BY_OPERATOR" | "FORBIDDEN" | "CHANNEL_BUSY" | "TOO_MANY_CHANNELS" | "CALL_FAILED" | "LOCKED" | "TOO_MANY_LOCKS" | "INTERNAL";

/** The `data` of an error frame. */
export interface ErrorData {
  /** What went wrong, for programs. */
  code: ErrorCode;
  /** Who holds the lock. Only `LOCKED` has it. */
  holder?: Holder;
  /** What went wrong, for people. The text may change. */
  message: string;
  /** How long to wait before the next frame, in milliseconds. Only `RATE_LIMITED` has it. */
  retryAfterMs?: number;
  /** When the error happened. */
  timestamp: Timestamp;
  /** Until when, unless the holder renews the lock. Only `LOCKED` has it. */
  until?: Timestamp;
}

/** The sender's id for a frame: 1 to 128 characters without control characters. */
export type FrameId = string;

/** A lock that is held. */
export interface HeldLock {
  /** The fencing number of the holder. */
  fencing: number;
  /** Who holds the lock. */
  holder: Holder;
  /** The lock's name in the channel. */
  name: LockName;
  /** Until when, unless the holder locks again. */
  until: Timestamp;
}

/** The locks of a channel that are held. */
export interface HeldLocks {
  /** The locks, in no particular order. The others are free. */
  held: Array<HeldLock>;
  /** `true` if there may be more than `held` has, otherwise absent. */
  more?: boolean;
}

/** The `data` of a `hello` frame. */
export interface HelloData {
  /** Frame types that the client understands and that the server sends to no others: `batch`. Unknown ones are ignored. It holds until the connection ends. */
  accepts?: Array<string>;
  /** Subscribes as a `subscribe` frame does. `welcome` has the result. */
  subscribe?: Subscribe;
}

/** The `data` of a server's `history` frame. */
export interface History {
  /** The channel. */
  channel: Address;
  /** The channel's present epoch. */
  epoch: Epoch;
  /** The messages after the position, without a gap. */
  messages?: Array<KeptFrame>;
  /** Whether more messages follow the last one: ask for them with `history`. */
  more?: boolean;
  /** Only if `recovered` is `false`: why. */
  reason?: NotRecovered;
  /** Only in an answer to a position: whether no message after it is lost. All of them are in `messages` and the pages after it. */
  recovered?: boolean;
  /** The number of the channel's newest message. Zero if there is none. */
  seq: number;
}

/** The `data` of a `history.purged` frame. */
export interface HistoryPurged {
  /** The channel. */
  channel: ChannelName;
  /** Where the new history begins: the first message comes after it. */
  position: Position;
}

/** The connection that holds a lock. */
export interface Holder {
  /** The user whose token opened the connection. */
  userId: UserId;
}

/** What a message is about: 1 to 64 characters without control characters. */
export type Kind = string;

/** The kinds with fixed fields. */
export type KnownNotification = Upload & {
  kind: "upload.completed";
} | Upload & {
  kind: "upload.finalized";
} | SetCreated & {
  kind: "set.created";
} | Announcement & {
  kind: "system.announcement";
};

/** Limits on what a client may send. */
export interface Limits {
  /** The largest frame, in bytes of UTF-8. */
  maxMessageBytes: number;
  /** The message rate limit: frames per minute in the long run. A burst may have a tenth of that, or 5 frames if that is more. */
  messagesPerMinute: number;
}

/** The `data` of a `lock` frame. */
export interface Lock {
  /** The channel. The connection must be subscribed to it. */
  channel: ChannelName;
  /** The lock's name in the channel. */
  name: LockName;
  /** How long the connection holds the lock unless it locks again, in seconds, 5 to 300. The default is 30. */
  seconds?: number;
}

/** The `data` of a `lock.changed` frame. */
export interface LockChanged {
  /** The channel. */
  channel: ChannelName;
  /** The fencing number of the holder, or of the last one. */
  fencing: number;
  /** Who holds the lock. Absent if it is free. */
  holder?: Holder;
  /** The lock's name in the channel. */
  name: LockName;
  /** Until when, unless the holder locks again. Absent if the lock is free. */
  until?: Timestamp;
}

/** The name of a lock in its channel: 1 to 128 characters of A-Z a-z 0-9 - _ . = , ; + ~ @ in segments joined by ":". */
export type LockName = string;

/** The `data` of a `locked` frame. */
export interface Locked {
  /** The channel. */
  channel: ChannelName;
  /** The fencing number. It rises with every new holder, so that whoever stores what the holder writes can refuse a former holder. */
  fencing: number;
  /** The lock's name in the channel. */
  name: LockName;
  /** Until when the connection holds the lock, unless it locks again. */
  until: Timestamp;
}

/** A user who is present in a channel. */
export interface Member {
  /** How many connections of the user are present. Zero if the user has gone and may come back within the grace period. */
  connections: number;
  /** What the user last told the others. */
  info: PresenceInfo;
  /** The user. */
  userId: UserId;
}

/** The `data` of a `message` frame. */
export interface MessageData {
  /** What the client published: any JSON value. */
  data?: unknown;
  /** What the message is about. */
  kind: Kind;
}

/** A whole `notification` or `message` frame, the same one that subscribers received. */
export type KeptFrame = ServerFrames["message"] | ServerFrames["notification"];

/** The idempotency key of a broadcast and the `id` of its frames: 1 to 128 visible ASCII characters. */
export type MessageId = string;

/** Why messages cannot be recovered. */
export type NotRecovered = "epoch" | "expired" | "tooFar";

/** The content of a notification. A known `kind` has fixed fields and may have more; the data of any other kind is passed on unchanged. */
export type NotificationData = { kind: string; [field: string]: unknown };

/** A position in a channel's history. */
export interface Position {
  /** The history that the number belongs to. */
  epoch: Epoch;
  /** The message's number: 1 for the first one, and no number is left out. Zero is the position before the first. */
  seq: number;
}

/** The `data` of `presence.joined`, `presence.left` and `presence.updated`. */
export interface PresenceChange {
  /** When the user's presence changed, or the users were counted. Of two changes of a user's presence, and of two counts, the later one holds, whichever arrives first. */
  at: Timestamp;
  /** The channel. */
  channel: ChannelName;
  /** The number of users who are present. */
  count: number;
  /** What the user tells the others. `presence.left` has none. */
  info?: PresenceInfo;
  /** The user. Absent in a `presence.updated` that tells the count alone. */
  userId?: UserId;
}

/** What a user tells the others in a channel: at most 1,024 bytes of JSON. */
export type PresenceInfo = Record<string, unknown>;

/** Who is present in a channel. */
export interface Present {
  /** The number of users who are present. If there are more than `members` has, it may be some minutes old. */
  count: number;
  /** The users who are present, in no particular order. */
  members: Array<Member>;
  /** `true` if there are more users than `members` has, otherwise absent. */
  more?: boolean;
}

/** The `data` of a server's `presence` frame. */
export interface PresentInChannel {
  /** The channel. */
  channel: ChannelName;
  /** The number of users who are present. If there are more than `members` has, it may be some minutes old. */
  count: number;
  /** The users who are present, in no particular order. */
  members: Array<Member>;
  /** `true` if there are more users than `members` has, otherwise absent. */
  more?: boolean;
}

/** The `data` of a `publish` frame. */
export interface Publish {
  /** The channel. Clients cannot publish to `@me` and `@all`. */
  channel: ChannelName;
  /** The content: any JSON value. */
  data?: unknown;
  /** Whether this connection gets the message, too, if it is subscribed. The default is `false`. */
  echo?: boolean;
  /** What the message is about. */
  kind: Kind;
  /** The idempotency key. A repeated frame of the same user with the same `messageId` is published once, if the message is kept. The default is an id of the server's. */
  messageId?: MessageId;
  /** Whether the channel's history keeps the message, if it has one. The default is `true`. */
  store?: boolean;
}

/** The `data` of a `published` frame. */
export interface Published {
  /** The channel. */
  channel: ChannelName;
  /** The `id` of the message. */
  messageId: MessageId;
  /** The position of the message. Absent if it is not kept. */
  position?: Position;
}

/** The `data` of a client's `history` frame. */
export interface ReadHistory {
  /** The position after which the messages begin. */
  after: Position;
  /** The channel. */
  channel: Address;
  /** The most messages in the answer, 1 to 300. The default is 100. */
  limit?: number;
}

/** The `data` of a client's `presence` frame. */
export interface ReadPresence {
  /** The channel. */
  channel: ChannelName;
}

/** The `data` of a `reconnect` frame. */
export interface Reconnect {
  /** When API Gateway cuts this connection, at the latest. If an operator asks for a new connection, when it should be open. */
  deadline: Timestamp;
  /** Choose a random moment within this time to open the new connection, in milliseconds. If it is absent, open it at once. */
  withinMs?: number;
}

/** The client that published a message. */
export interface Sender {
  /** The user whose token opened the connection. */
  userId: UserId;
}

/** The data of `set.created`: a set of files now exists. */
export interface SetCreated {
  /** The name that the user gave the set. */
  name?: string;
  /** The id of the set. */
  setId: string;
}

/** The position of the last message that the client has seen, or `acked`: the position that the user has acknowledged, on any device. */
export type Since = Position | "acked";

/** The `data` of a `subscribe` frame. */
export interface Subscribe {
  /** The channels to subscribe to. */
  channels: Array<ChannelWanted>;
}

/** The `data` of a `subscribed` frame. */
export interface Subscribed {
  /** The channels in the order of the client's frame. */
  channels: Array<SubscribedTo>;
  /** When the token expires. Only over HTTP. */
  tokenExpiresAt?: Timestamp;
  /** The user whose token it is. Only over HTTP. */
  userId?: UserId;
}

/** What became of one channel of a `subscribe` frame. */
export type SubscribedTo = ChannelRefused | ChannelState;

/** The `data` of a `sync` frame. */
export interface Sync {
  /** The channels to compare. */
  channels: Array<ChannelSince>;
}

/** The `data` of a `synced` frame. */
export interface Synced {
  /** The channels in the order of the client's frame. */
  channels: Array<SyncedChannel>;
}

/** A channel as the server knows it. */
export interface SyncedChannel {
  /** The channel. */
  channel: Address;
  /** Whether there is something after the client's position: ask for it with `history`. Absent if the client sent no position or the channel has no history. */
  missed?: boolean;
  /** The channel's newest position. Absent if the channel has no history. */
  position?: Position;
  /** Whether the connection is subscribed. Always `true` for `@me` and `@all`. */
  subscribed: boolean;
}

/** A point in time: RFC 3339 in UTC with a final `Z`, for example `2026-02-09T18:11:43.822Z`. */
export type Timestamp = string;

/** The `data` of an `unlock` frame. */
export interface Unlock {
  /** The channel. */
  channel: ChannelName;
  /** The lock's name in the channel. The connection need not hold it. */
  name: LockName;
}

/** The `data` of an `unlocked` frame. */
export interface Unlocked {
  /** The channel. */
  channel: ChannelName;
  /** The lock's name in the channel. */
  name: LockName;
}

/** The `data` of an `unsubscribe` frame. */
export interface Unsubscribe {
  /** The channels that the client no longer wants. It need not be subscribed to them. */
  channels: Array<ChannelName>;
}

/** The `data` of an `unsubscribed` frame. */
export interface Unsubscribed {
  /** The channels that the connection is no longer subscribed to. */
  channels: Array<ChannelName>;
  /** Why the server has ended the subscriptions. Absent in the reply to `unsubscribe`. */
  reason?: ErrorCode;
}

/** The data of `upload.completed` (all bytes have arrived) and of `upload.finalized` (the file is processed and ready for use). */
export interface Upload {
  /** The media type of the file, for example `image/png`. */
  contentType?: string;
  /** The name of the file, as the user knows it. */
  file: string;
  /** The size of the file in bytes. */
  size?: number;
  /** The URL of the file. */
  url?: string;
}

/** The user of a connection, from a claim of the token: 1 to 128 characters without control characters. */
export type UserId = string;

/** The protocol version, `1.x`. Belfry writes `1.0`. */
export type Version = string;

/** The `data` of a `welcome` frame. */
export interface Welcome {
  /** The channels that a rule has subscribed the connection to. Absent if there is none. */
  autoSubscribed?: Array<AutoSubscribed>;
  /** When the connection was opened. */
  connectedAt: Timestamp;
  /** When API Gateway cuts the connection, at the latest. */
  connectionExpiresAt: Timestamp;
  /** The id of this connection. */
  connectionId: ConnectionId;
  /** `true` if the connection has replaced another one and holds its locks, otherwise absent. */
  keepsLocks?: boolean;
  /** The limits on what the client may send. */
  limits: Limits;
  /** What became of the subscriptions that the client asked for in `hello`. */
  subscribed?: Subscribed;
  /** When the token expires. The server then closes the connection, unless `auth.refresh` has extended the session. */
  tokenExpiresAt: Timestamp;
  /** The user whose token opened the connection. */
  userId: UserId;
}

/** The fields that every frame has besides `type` and `data`. */
export interface Envelope {
  /** The protocol version that the sender used. */
  version: Version;
  /** The sender's id for this frame. A reply repeats it as `correlationId`. */
  id?: FrameId;
  /** When the sender made the frame. */
  timestamp?: Timestamp;
  /** The `id` of the frame that this one answers. */
  correlationId?: FrameId;
}

/** The frames that a server sends, by type. */
export interface ServerFrames {
  /** The reply to `ping`. */
  "pong": Envelope & {
    type: "pong";
    /** Ignored. It may be any object. */
    data?: Record<string, unknown>;
  };
  /** The reply to `hello`. */
  "welcome": Envelope & {
    type: "welcome";
    /** The content of the frame. Its fields depend on `type`. */
    data: Welcome;
  };
  /** The reply to `echo`, with the same `data`. */
  "echo": Envelope & {
    type: "echo";
    /** The content of the frame. Its fields depend on `type`. */
    data: unknown;
  };
  /** The reply to `auth.refresh`. */
  "auth.refreshed": Envelope & {
    type: "auth.refreshed";
    /** The content of the frame. Its fields depend on `type`. */
    data: AuthRefreshed;
  };
  /** Checks whether a silent client is still there. The client must send `pong` or any other frame, or the server closes the connection. */
  "ping": Envelope & {
    type: "ping";
    /** Ignored. It may be any object. */
    data?: Record<string, unknown>;
  };
  /** Announces the end of this connection. The client should open a new connection, then close this one. */
  "reconnect": Envelope & {
    type: "reconnect";
    /** The content of the frame. Its fields depend on `type`. */
    data: Reconnect;
  };
  /** Says why the server refused a frame, or why it closes the connection. */
  "error": Envelope & {
    type: "error";
    /** The content of the frame. Its fields depend on `type`. */
    data: ErrorData;
  };
  /** A message from a caller of the broadcaster. */
  "notification": Envelope & {
    type: "notification";
    /** Whom the message is for. Absent for messages to users or to everyone of which no history is kept. */
    channel?: Address;
    /** The content of the message. */
    data: NotificationData;
    /** The client that published the message. Only `message` frames have it, and they always do. */
    from?: Sender;
    /** The message's position in the channel's history. Absent if the message is not kept. */
    position?: Position;
  };
  /** A message from another client. */
  "message": Envelope & {
    type: "message";
    /** Whom the message is for. Absent for messages to users or to everyone of which no history is kept. */
    channel?: Address;
    /** The content of the message. */
    data: MessageData;
    /** The client that published the message. Only `message` frames have it, and they always do. */
    from?: Sender;
    /** The message's position in the channel's history. Absent if the message is not kept. */
    position?: Position;
  };
  /** Several messages from a caller of the broadcaster. Only for clients that accept it. */
  "batch": Envelope & {
    type: "batch";
    /** The content of the frame. Its fields depend on `type`. */
    data: Batch;
  };
  /** The reply to `subscribe`. */
  "subscribed": Envelope & {
    type: "subscribed";
    /** The content of the frame. Its fields depend on `type`. */
    data: Subscribed;
  };
  /** The reply to `unsubscribe`, or the end of subscriptions that are no longer allowed. */
  "unsubscribed": Envelope & {
    type: "unsubscribed";
    /** The content of the frame. Its fields depend on `type`. */
    data: Unsubscribed;
  };
  /** The reply to `publish`: the message is published. */
  "published": Envelope & {
    type: "published";
    /** The content of the frame. Its fields depend on `type`. */
    data: Published;
  };
  /** The reply to `history`. */
  "history": Envelope & {
    type: "history";
    /** The content of the frame. Its fields depend on `type`. */
    data: History;
  };
  /** A channel's history was deleted, and another one begins. */
  "history.purged": Envelope & {
    type: "history.purged";
    /** The content of the frame. Its fields depend on `type`. */
    data: HistoryPurged;
  };
  /** The reply to `sync`. */
  "synced": Envelope & {
    type: "synced";
    /** The content of the frame. Its fields depend on `type`. */
    data: Synced;
  };
  /** The reply to `presence`. */
  "presence": Envelope & {
    type: "presence";
    /** The content of the frame. Its fields depend on `type`. */
    data: PresentInChannel;
  };
  /** A user has come into a channel. */
  "presence.joined": Envelope & {
    type: "presence.joined";
    /** The content of the frame. Its fields depend on `type`. */
    data: PresenceChange;
  };
  /** A user has left a channel. */
  "presence.left": Envelope & {
    type: "presence.left";
    /** The content of the frame. Its fields depend on `type`. */
    data: PresenceChange;
  };
  /** A user tells something else about itself, or the number of users in a large channel has changed. */
  "presence.updated": Envelope & {
    type: "presence.updated";
    /** The content of the frame. Its fields depend on `type`. */
    data: PresenceChange;
  };
  /** The reply to `call`, with what the application's function returned. */
  "result": Envelope & {
    type: "result";
    /** The content of the frame. Its fields depend on `type`. */
    data: unknown;
  };
  /** The reply to `ack`. */
  "acked": Envelope & {
    type: "acked";
    /** The content of the frame. Its fields depend on `type`. */
    data: Acked;
  };
  /** The reply to `lock`. */
  "locked": Envelope & {
    type: "locked";
    /** The content of the frame. Its fields depend on `type`. */
    data: Locked;
  };
  /** The reply to `unlock`. */
  "unlocked": Envelope & {
    type: "unlocked";
    /** The content of the frame. Its fields depend on `type`. */
    data: Unlocked;
  };
  /** Another connection has locked, renewed or released a lock of a channel. */
  "lock.changed": Envelope & {
    type: "lock.changed";
    /** The content of the frame. Its fields depend on `type`. */
    data: LockChanged;
  };
}

/** The frames that a client sends, by type. */
export interface ClientFrames {
  /** Asks whether the server responds. The reply is `pong`. */
  "ping": Envelope & {
    type: "ping";
    /** Ignored. It may be any object. */
    data?: Record<string, unknown>;
  };
  /** Asks about the connection and its limits. The reply is `welcome`. */
  "hello": Envelope & {
    type: "hello";
    /** What the client wants besides the answer. */
    data?: HelloData;
  };
  /** Answers a `ping` of the server. It gets no reply. */
  "pong": Envelope & {
    type: "pong";
    /** Ignored. It may be any object. */
    data?: Record<string, unknown>;
  };
  /** Asks for a reply with the same `data`, which can be any JSON value. The reply is `echo`. */
  "echo": Envelope & {
    type: "echo";
    /** The content of the frame. Its fields depend on `type`. */
    data: unknown;
  };
  /** Extends the session with a newer token of the same user. The reply is `auth.refreshed`. */
  "auth.refresh": Envelope & {
    type: "auth.refresh";
    /** The content of the frame. Its fields depend on `type`. */
    data: AuthRefresh;
  };
  /** Subscribes to channels, and recovers messages that were missed. The reply is `subscribed`. */
  "subscribe": Envelope & {
    type: "subscribe";
    /** The content of the frame. Its fields depend on `type`. */
    data: Subscribe;
  };
  /** Ends subscriptions. The reply is `unsubscribed`. */
  "unsubscribe": Envelope & {
    type: "unsubscribe";
    /** The content of the frame. Its fields depend on `type`. */
    data: Unsubscribe;
  };
  /** Publishes a message to a channel. The reply is `published`. */
  "publish": Envelope & {
    type: "publish";
    /** The content of the frame. Its fields depend on `type`. */
    data: Publish;
  };
  /** Asks for messages of a channel's history. The reply is `history`. */
  "history": Envelope & {
    type: "history";
    /** The content of the frame. Its fields depend on `type`. */
    data: ReadHistory;
  };
  /** Asks for the newest positions of channels. The reply is `synced`. */
  "sync": Envelope & {
    type: "sync";
    /** The content of the frame. Its fields depend on `type`. */
    data: Sync;
  };
  /** Asks who is present in a channel. The reply is `presence`. */
  "presence": Envelope & {
    type: "presence";
    /** The content of the frame. Its fields depend on `type`. */
    data: ReadPresence;
  };
  /** Has a function of the application do something. The reply is `result`. */
  "call": Envelope & {
    type: "call";
    /** The content of the frame. Its fields depend on `type`. */
    data: Call;
  };
  /** Acknowledges every message of a channel up to a position. The reply is `acked`. */
  "ack": Envelope & {
    type: "ack";
    /** The content of the frame. Its fields depend on `type`. */
    data: Ack;
  };
  /** Locks something in a channel, or renews a lock. The reply is `locked`. */
  "lock": Envelope & {
    type: "lock";
    /** The content of the frame. Its fields depend on `type`. */
    data: Lock;
  };
  /** Releases a lock. The reply is `unlocked`. */
  "unlock": Envelope & {
    type: "unlock";
    /** The content of the frame. Its fields depend on `type`. */
    data: Unlock;
  };
}

/** A frame from the server. */
export type ServerFrame = ServerFrames[keyof ServerFrames];

/** The data of the kinds that the protocol defines. */
export interface ProtocolKinds {
  "upload.completed": Upload;
  "upload.finalized": Upload;
  "set.created": SetCreated;
  "system.announcement": Announcement;
}
