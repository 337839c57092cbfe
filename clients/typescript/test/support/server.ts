import type { WebSocketLike } from "../../src/environment.js";
import type {
  ChannelSince,
  ChannelWanted,
  ClientFrames,
  HeldLock,
  KeptFrame,
  Member,
  Position,
  PresenceInfo,
  Present,
  ServerFrame,
} from "../../src/generated/frames.js";
import type { ManualEnvironment } from "./clock.js";
import { assertClientFrame, assertServerFrame } from "./schema.js";

type ClientFrame = ClientFrames[keyof ClientFrames];

/** The log of a channel, as the server keeps it. */
export class Log {
  epoch = "e1";
  #answers = 0;
  /** Every message of the epoch, the expired ones included. */
  readonly messages: KeptFrame[] = [];
  /** How many of the oldest messages have expired. */
  expired = 0;

  readonly channel: string;

  constructor(channel: string) {
    this.channel = channel;
  }

  /** The newest position. An empty history has no epoch yet: the server makes one up for each answer. */
  get newest(): Position {
    const { length } = this.messages;
    if (length === 0) this.#answers += 1;
    return { epoch: length > 0 ? this.epoch : `none${this.#answers}`, seq: length };
  }

  append(text: string, id: string = text): KeptFrame {
    const frame: KeptFrame = {
      type: "message",
      version: "1.0",
      id,
      channel: this.channel,
      position: { epoch: this.epoch, seq: this.messages.length + 1 },
      from: { userId: "bob" },
      data: { kind: "chat.line", data: { text } },
    };
    this.messages.push(frame);
    return frame;
  }

  /** The history ends, and another one begins. */
  restart(epoch: string): void {
    this.epoch = epoch;
    this.messages.length = 0;
    this.expired = 0;
  }

  /** The answer to a position. */
  page(since: Position, limit: number, maxMissed = Number.POSITIVE_INFINITY) {
    const missed = this.messages.length - since.seq;
    const reason =
      since.seq > 0 && (since.epoch !== this.epoch || missed < 0)
        ? ("epoch" as const)
        : missed > maxMissed
          ? ("tooFar" as const)
          : since.seq < this.expired && missed > 0
            ? ("expired" as const)
            : undefined;
    if (reason) return { ...this.newest, recovered: false, reason, messages: [], more: false };
    const messages = this.messages.slice(since.seq, since.seq + limit);
    return { ...this.newest, recovered: true, messages, more: since.seq + messages.length < this.messages.length };
  }
}

interface FakeLock {
  /** `undefined`: somebody else's. */
  socket: FakeSocket | undefined;
  userId: string;
  endsAt: number;
  until: string;
  fencing: number;
}

/** A server in memory that speaks the protocol, and that a test can make fail. */
export class FakeServer {
  readonly sockets: FakeSocket[] = [];
  readonly logs = new Map<string, Log>();
  /** Channels to which nobody may subscribe. */
  readonly forbidden = new Set<string>();
  /** The most messages in an answer. */
  pageSize = 300;
  maxMissed = 300;
  maxMessageBytes = 16_384;
  messagesPerMinute = 6_000;
  tokenSeconds = 3_600;
  connectionSeconds = 7_200;
  userId = "alice";
  /** Whether handshakes succeed by themselves. */
  accepts = true;
  /** Looks at each frame first. Returns `true` if the server should not answer it. */
  intercept: (frame: ClientFrame, socket: FakeSocket) => boolean = () => false;
  readonly published = new Map<string, Position>();
  /** Who is present in a channel besides the client. */
  readonly others = new Map<string, Member[]>();
  readonly locks = new Map<string, FakeLock>();
  /** What the user has acknowledged, by channel. */
  readonly acked = new Map<string, Position>();
  /** What the application's function returns. */
  result: unknown = { ok: true };
  /** Whether the server has noticed the ends of connections, and released their locks. */
  noticesEnds = true;
  /** Whether a connection gets the locks of the one that it replaces. */
  handsLocksOn = true;
  /** The channels that a rule subscribes every connection to. */
  autoSubscribed: string[] = [];
  /** How many users the server lists and announces. */
  announced = 100;
  readonly #environment: ManualEnvironment;
  #connections = 0;
  #fencing = 100;

  constructor(environment: ManualEnvironment) {
    this.#environment = environment;
    const server = this;
    environment.WebSocket = class extends ClientEnd {
      constructor(url: string, protocols: string[]) {
        super();
        this.socket = new FakeSocket(server, url, protocols, this);
      }
    };
  }

  /** The newest socket. */
  get socket(): FakeSocket {
    const socket = this.sockets.at(-1);
    if (!socket) throw new Error("the client has opened no socket");
    return socket;
  }

  get open(): FakeSocket[] {
    return this.sockets.filter((socket) => socket.state === "open");
  }

  /** A channel with a history. */
  log(channel: string): Log {
    const log = this.logs.get(channel) ?? new Log(channel);
    this.logs.set(channel, log);
    return log;
  }

  nextConnectionId(): string {
    this.#connections += 1;
    return `c${this.#connections}`;
  }

  /** The server's clock: not the client's. */
  timestamp(inMs = 0): string {
    return new Date(Date.UTC(2031, 0, 1) + this.#environment.now() + inMs).toISOString();
  }

  /** Publishes and posts to every subscriber. */
  publish(channel: string, text: string): KeptFrame {
    const frame = this.log(channel).append(text);
    this.post(frame);
    return frame;
  }

  post(frame: KeptFrame): void {
    for (const socket of this.open) {
      const { channel } = frame;
      if (channel === undefined || channel.startsWith("@") || socket.subscribed.has(channel)) socket.send(frame);
    }
  }

  answer(frame: ClientFrame, socket: FakeSocket): void {
    const reply = this.#reply(frame, socket);
    if (!reply) return;
    const [type, data] = reply;
    if (type === "error" && typeof data === "object") this.refuse(frame, socket, "LOCKED", data ?? {});
    else if (type === "error") this.refuse(frame, socket, String(data));
    else
      socket.send({ type, version: "1.0", timestamp: this.timestamp(), data, correlationId: frame.id } as ServerFrame);
  }

  #reply(frame: ClientFrame, socket: FakeSocket): [type: string, data?: unknown] | undefined {
    switch (frame.type) {
      case "ping":
        return ["pong"];
      case "hello":
        return ["welcome", this.#welcome(frame.data?.subscribe?.channels, socket)];
      case "auth.refresh":
        return ["auth.refreshed", { tokenExpiresAt: this.timestamp(this.tokenSeconds * 1_000) }];
      case "subscribe":
        return ["subscribed", { channels: frame.data.channels.map((one) => this.#subscribe(one, socket)) }];
      case "unsubscribe":
        for (const channel of frame.data.channels) socket.subscribed.delete(channel);
        return ["unsubscribed", { channels: frame.data.channels }];
      case "publish": {
        const { channel, messageId = "none", data, store } = frame.data;
        const position = this.published.get(messageId) ?? this.#publish(channel, messageId, data, store);
        return ["published", { channel, messageId, ...(position && { position }) }];
      }
      case "history": {
        const { channel, after, limit = 100 } = frame.data;
        const log = this.logs.get(channel);
        if (!log) return ["error", "INVALID_MESSAGE"];
        return ["history", { channel, ...log.page(after, Math.min(limit, this.pageSize)) }];
      }
      case "sync":
        return ["synced", { channels: frame.data.channels.map((one) => this.#compare(one, socket)) }];
      case "presence":
        return ["presence", { channel: frame.data.channel, ...this.present(frame.data.channel) }];
      case "ack": {
        const { channel, epoch, seq } = frame.data;
        this.acked.set(channel, { epoch, seq });
        return ["acked", frame.data];
      }
      case "call":
        return ["result", this.result];
      case "lock":
        return this.#lock(frame.data, socket);
      case "unlock": {
        const { channel, name } = frame.data;
        const key = `${channel} ${name}`;
        if (this.locks.get(key)?.socket === socket) this.locks.delete(key);
        return ["unlocked", { channel, name }];
      }
      default:
        return undefined;
    }
  }

  #lock({ channel, name, seconds = 30 }: ClientFrames["lock"]["data"], socket: FakeSocket): [string, object | string] {
    if (!socket.subscribed.has(channel)) return ["error", "FORBIDDEN"];
    const key = `${channel} ${name}`;
    const known = this.locks.get(key);
    const hasEnded = known?.socket?.state === "closed" && this.noticesEnds;
    const isFree = !known || hasEnded || known.endsAt + 5_000 <= this.#environment.now();
    if (!isFree && known.socket !== socket) {
      return ["error", { code: "LOCKED", holder: { userId: known.userId }, until: known.until }];
    }
    const fencing = isFree ? ++this.#fencing : known.fencing;
    const endsAt = this.#environment.now() + seconds * 1_000;
    const until = this.timestamp(seconds * 1_000);
    this.locks.set(key, { socket, userId: this.userId, endsAt, until, fencing });
    return ["locked", { channel, name, until, fencing }];
  }

  /** Hands on the locks of the open connection that this one replaces. */
  #handOn(socket: FakeSocket): boolean {
    const replaced = new URL(socket.url).searchParams.get("replaces");
    const old = this.open.find(({ connectionId }) => connectionId === replaced);
    if (!old || !this.handsLocksOn) return false;
    for (const lock of this.locks.values()) if (lock.socket === old) lock.socket = socket;
    return true;
  }

  /** Has somebody else hold a lock. */
  hold(channel: string, name: string, userId: string, seconds: number): FakeLock {
    const endsAt = this.#environment.now() + seconds * 1_000;
    const until = this.timestamp(seconds * 1_000);
    const lock = { socket: undefined, userId, endsAt, until, fencing: ++this.#fencing };
    this.locks.set(`${channel} ${name}`, lock);
    return lock;
  }

  /** Who is present in a channel. */
  present(channel: string): Present {
    const own = this.open.flatMap((socket) => socket.present.get(channel) ?? []);
    const info = own.at(-1);
    const users: Member[] = [
      ...(info ? [{ userId: this.userId, connections: own.length, info: info as PresenceInfo }] : []),
      ...(this.others.get(channel) ?? []),
    ];
    const members = users.slice(0, this.announced);
    return { members, count: users.length, ...(members.length < users.length && { more: true }) };
  }

  /** Tells the client of a change. */
  tell(
    change: "joined" | "left" | "updated",
    data: { channel: string; userId?: string; info?: PresenceInfo; count: number; at: string },
  ): void {
    this.socket.send({ type: `presence.${change}`, version: "1.0", timestamp: this.timestamp(), data } as ServerFrame);
  }

  #welcome(wanted: ChannelWanted[] | undefined, socket: FakeSocket): unknown {
    const named = this.autoSubscribed.filter((channel) => socket.subscribed.has(channel));
    const autoSubscribed = named.map((channel) => {
      const log = this.logs.get(channel);
      return { channel, ...(log && { position: log.newest }) };
    });
    return {
      connectionId: socket.connectionId,
      userId: this.userId,
      connectedAt: this.timestamp(),
      tokenExpiresAt: this.timestamp(this.tokenSeconds * 1_000),
      connectionExpiresAt: this.timestamp(this.connectionSeconds * 1_000),
      limits: { maxMessageBytes: this.maxMessageBytes, messagesPerMinute: this.messagesPerMinute },
      ...(wanted && { subscribed: { channels: wanted.map((one) => this.#subscribe(one, socket)) } }),
      ...(autoSubscribed.length > 0 && { autoSubscribed }),
      ...(this.#handOn(socket) && { keepsLocks: true }),
    };
  }

  refuse(frame: ClientFrame, socket: FakeSocket, code: string, more: object = {}): void {
    const data = { code, message: "refused", timestamp: this.timestamp(), ...more };
    socket.send({ type: "error", version: "1.0", data, correlationId: frame.id } as ServerFrame);
  }

  #subscribe({ channel, since, presence, locks }: ChannelWanted, socket: FakeSocket): unknown {
    if (this.forbidden.has(channel)) return { channel, error: { code: "FORBIDDEN", message: "not allowed" } };
    socket.subscribed.add(channel);
    if (presence) socket.present.set(channel, presence);
    else socket.present.delete(channel);
    const state = {
      channel,
      ...(presence && { presence: this.present(channel) }),
      ...(locks && { locks: { held: this.#held(channel) } }),
    };
    const log = this.logs.get(channel);
    if (!log) return state;
    const after = since === "acked" ? this.acked.get(channel) : since;
    return { ...state, ...(after ? log.page(after, this.pageSize, this.maxMissed) : log.newest) };
  }

  #held(channel: string): HeldLock[] {
    return [...this.locks].flatMap(([key, { userId, until, fencing }]) => {
      const [of, name = ""] = key.split(" ");
      return of === channel ? [{ name, holder: { userId }, until, fencing }] : [];
    });
  }

  #publish(channel: string, id: string, data: unknown, store = true): Position | undefined {
    const log = this.logs.get(channel);
    if (!log || !store) return undefined;
    const { position } = log.append(String((data as { text?: string })?.text), id);
    if (position) this.published.set(id, position);
    return position;
  }

  #compare({ channel, since }: ChannelSince, socket: FakeSocket): unknown {
    const subscribed = channel.startsWith("@") || socket.subscribed.has(channel);
    const log = this.logs.get(channel);
    if (!log || !subscribed) return { channel, subscribed };
    const { epoch, seq } = log.newest;
    const missed = since && ((since.seq > 0 && since.epoch !== epoch) || since.seq < seq);
    return { channel, subscribed, position: { epoch, seq }, ...(missed !== undefined && { missed }) };
  }
}

/** The client's end of a socket. */
class ClientEnd implements WebSocketLike {
  onopen: ((event: never) => unknown) | null = null;
  onmessage: ((event: never) => unknown) | null = null;
  onclose: ((event: never) => unknown) | null = null;
  onerror: ((event: never) => unknown) | null = null;
  protected socket: FakeSocket | undefined;

  send(text: string): void {
    this.socket?.take(text);
  }

  close(): void {
    if (this.socket) this.socket.state = "closed";
  }
}

/** The server's end of a socket. */
export class FakeSocket {
  readonly url: string;
  readonly protocols: string[];
  readonly connectionId: string;
  state: "connecting" | "open" | "closed" = "connecting";
  /** A frozen socket carries nothing, in neither direction. */
  frozen = false;
  readonly subscribed = new Set<string>();
  /** What the client tells the others, by channel. */
  readonly present = new Map<string, PresenceInfo>();
  /** The frames of the client. */
  readonly received: ClientFrame[] = [];
  readonly #server: FakeServer;
  readonly #client: ClientEnd;

  constructor(server: FakeServer, url: string, protocols: string[], client: ClientEnd) {
    this.url = url;
    this.protocols = protocols;
    this.connectionId = server.nextConnectionId();
    this.#server = server;
    this.#client = client;
    server.sockets.push(this);
    queueMicrotask(() => {
      if (server.accepts) this.accept();
    });
  }

  accept(): void {
    if (this.state !== "connecting") return;
    this.state = "open";
    for (const channel of this.#server.autoSubscribed) this.subscribed.add(channel);
    this.#client.onopen?.({} as never);
  }

  /** Sends a frame to the client. */
  send(frame: ServerFrame): void {
    assertServerFrame(frame);
    this.sendText(JSON.stringify(frame));
  }

  sendText(text: string): void {
    if (this.state === "open" && !this.frozen) this.#client.onmessage?.({ data: text } as never);
  }

  /** Ends the socket as the server or the network does. */
  end(code = 1006): void {
    if (this.state === "closed") return;
    this.state = "closed";
    this.#client.onclose?.({ code } as never);
  }

  /** The frames of one type. */
  of<T extends keyof ClientFrames>(type: T): Array<ClientFrames[T]> {
    return this.received.filter((frame): frame is ClientFrames[T] => frame.type === type);
  }

  /** Takes a frame of the client. */
  take(text: string): void {
    if (this.state !== "open") throw new Error("the client sends on a socket that is not open");
    const frame = JSON.parse(text) as ClientFrame;
    assertClientFrame(frame);
    if (this.frozen) return;
    this.received.push(frame);
    // A reply comes later than the call that sent the request.
    queueMicrotask(() => {
      if (!this.#server.intercept(frame, this)) this.#server.answer(frame, this);
    });
  }
}
