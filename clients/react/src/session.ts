import type { Belfry, Status } from "@belfry/client";
import { Notifications } from "./notifications.js";
import { Shared } from "./shared.js";
import { SharedChannel } from "./shared-channel.js";
import { Store } from "./store.js";

/** A client that a provider has, and whether it is the provider's to close. */
export interface ClientSource {
  /** The same key stands for the same client. */
  readonly key: unknown;
  readonly isOwned: boolean;
  make(): Belfry;
}

/** What the components below one provider share. It exists before the client does, and on servers without one. */
export class Session {
  readonly client: Store<Belfry | null> = new Store<Belfry | null>(null);
  readonly status: Store<Status> = new Store<Status>({ state: "connecting" });
  readonly notifications: Notifications = new Notifications();
  readonly channels: Shared<SharedChannel> = new Shared(
    (name) => new SharedChannel(name, this.client.get()),
    (channel) => channel.bind(null),
  );
  #key: unknown;
  #isHeld = false;
  #end = () => {};
  #userId: string | undefined;

  /** Makes the client, unless it is there. Returns a function that ends it, unless this is called again in the same go. */
  hold(source: ClientSource): () => void {
    if (!this.client.get() || this.#key !== source.key) this.#begin(source);
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

  #begin({ key, isOwned, make }: ClientSource): void {
    this.#end();
    const client = make();
    this.#key = key;
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
