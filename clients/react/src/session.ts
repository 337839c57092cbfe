import type { Belfry, Status } from "@belfry/client";
import { Notifications } from "./notifications.js";
import { Shared } from "./shared.js";
import { SharedChannel } from "./shared-channel.js";
import { Store } from "./store.js";

/** What the components below one provider share. It exists before the client does, and on servers without one. */
export class Session {
  readonly client: Store<Belfry | null> = new Store<Belfry | null>(null);
  readonly status: Store<Status> = new Store<Status>({ state: "connecting" });
  readonly notifications: Notifications = new Notifications();
  readonly channels: Shared<SharedChannel> = new Shared(
    (name) => new SharedChannel(name, this.client.get()),
    (channel) => channel.bind(null),
  );
  #source: Belfry | string | undefined;
  #isHeld = false;
  #end = () => {};
  #userId: string | undefined;

  /**
   * Uses a client, or has one made for a URL and closes it in the end. Returns a function that ends this, unless it is
   * called again in the same go.
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
      for (const channel of this.channels.all) channel.changed(status);
    };
    const stops = [
      client.on("status", changed),
      client.on("notification", (message) => this.notifications.add(message)),
    ];
    this.#end = () => {
      this.#end = () => {};
      for (const stop of stops) stop();
      for (const channel of this.channels.all) channel.bind(null);
      if (isOwned) client.close();
      this.client.set(null);
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
      this.notifications.keep(({ channel }) => channel === "@all");
    }
    this.#userId = status.userId;
  }
}
