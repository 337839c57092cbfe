import { type Belfry, BelfryError, type LostIn, type Message, type Status } from "@belfry/client";
import { Notifications } from "./notifications.js";
import { Shared } from "./shared.js";
import { SharedChannel } from "./shared-channel.js";
import { Store } from "./store.js";

/** The props of a provider that may change in each render. */
export interface SessionOptions {
  /** The most notifications to keep: 100 by default. */
  limit?: number;
  /** Is called with each notification, once. */
  onNotification?: (notification: Message) => void;
  /** Is called when messages are lost, in a channel or among the notifications: fetch the state again. */
  onLost?: (lost: LostIn) => void;
}

/** What the components below one provider share. It exists before the client does, and on servers without one. */
export class Session {
  /** `null` until the provider is mounted, `undefined` when it is gone. */
  readonly client: Store<Belfry | null | undefined> = new Store<Belfry | null | undefined>(null);
  readonly status: Store<Status> = new Store<Status>({ state: "connecting" });
  readonly notifications: Notifications;
  readonly channels: Shared<SharedChannel> = new Shared(
    (name) => new SharedChannel(name, this),
    (channel) => channel.bind(null),
  );
  readonly #options: { readonly current: SessionOptions };
  #source: Belfry | string | undefined;
  #isHeld = false;
  #end = () => {};
  #userId: string | undefined;

  constructor(options: { readonly current: SessionOptions }) {
    this.#options = options;
    this.notifications = new Notifications(() => options.current.limit ?? 100);
  }

  /**
   * Uses a client, or has one made for a URL and closes it in the end. Returns a function that ends this, unless it is
   * called again before the next microtask.
   */
  hold(source: Belfry | string, make: () => Belfry): () => void {
    if (!this.client.get() || this.#source !== source) this.#begin(source, make);
    this.#isHeld = true;
    return () => {
      this.#isHeld = false;
      // StrictMode unmounts and mounts again at once, and that should open no second socket.
      queueMicrotask(() => {
        if (!this.#isHeld) this.#end();
      });
    };
  }

  /** The client, as soon as there is one: children's effects run before the provider's. Rejects if the provider is gone. */
  ready(): Promise<Belfry> {
    return new Promise((resolve, reject) => {
      const check = (client: Belfry | null | undefined) => {
        if (client) resolve(client);
        else if (client === undefined) reject(new BelfryError("CLOSED", "the component has no provider"));
        else return;
        stop();
      };
      const stop = this.client.add(check);
      check(this.client.get());
    });
  }

  readonly connect = (): void => this.client.get()?.connect();

  readonly close = (): void => this.client.get()?.close();

  #begin(source: Belfry | string, make: () => Belfry): void {
    this.#end();
    const isOwned = typeof source === "string";
    const client = isOwned ? make() : source;
    this.#source = source;
    const changed = (status: Status) => {
      this.#welcome(status);
      this.status.set(status);
      for (const channel of this.channels.all) channel.update();
    };
    const stops = [
      client.on("status", changed),
      client.on("notification", (message) => {
        if (this.notifications.add(message)) this.#options.current.onNotification?.(message);
      }),
      client.on("lost", (lost) => {
        if (lost.isNotified) this.notifications.lose(lost);
        this.#options.current.onLost?.(lost);
      }),
    ];
    this.#end = () => {
      this.#end = () => {};
      for (const stop of stops) stop();
      for (const channel of this.channels.all) channel.bind(null);
      if (isOwned) client.close();
      this.client.set(undefined);
      this.status.set(this.status.initial);
    };
    this.client.set(client);
    for (const channel of this.channels.all) channel.bind(client);
    changed(client.status);
  }

  #welcome(status: Status): void {
    if (status.state !== "connected") return;
    // What was meant for one user is not for the next one to read.
    if (this.#userId !== undefined && this.#userId !== status.userId) {
      this.notifications.forget();
      for (const channel of this.channels.all) channel.forget();
    }
    this.#userId = status.userId;
  }
}
