import type { Message } from "@belfry/client";
import { Listeners } from "./listeners.js";
import { Store } from "./store.js";

/** A notification in the list. */
export interface NotificationItem extends Message {
  /** The sender's id, or one made up if the sender gave none. */
  readonly id: string;
  readonly isRead: boolean;
}

/** Which notifications there are. */
export interface NotificationState {
  /** Newest first. */
  readonly notifications: readonly NotificationItem[];
  /** How many of them have not been read. */
  readonly unread: number;
}

/** How many ids are remembered, so that a repeated notification is dropped even after it was dismissed. */
const REMEMBERED = 1_000;

/** The newest notifications, each once. */
export class Notifications {
  readonly state: Store<NotificationState> = new Store<NotificationState>({ notifications: [], unread: 0 });
  readonly #added = new Listeners<NotificationItem>();
  readonly #seen = new Set<string>();
  #limit = 100;
  #made = 0;

  /** Tells of each notification that is added. */
  readonly onAdded: Listeners<NotificationItem>["add"] = this.#added.add;

  set limit(limit: number) {
    this.#limit = limit;
    this.#set(this.#items);
  }

  add(message: Message): void {
    const id = message.id ?? `unnamed-${++this.#made}`;
    if (this.#seen.has(id)) return;
    this.#seen.add(id);
    const [oldest] = this.#seen;
    if (oldest !== undefined && this.#seen.size > REMEMBERED) this.#seen.delete(oldest);
    const item = { ...message, id, isRead: false };
    this.#set([item, ...this.#items]);
    this.#added.tell(item);
  }

  /** Without an id, all are read. */
  readonly markRead = (id?: string): void => {
    const isMeant = (item: NotificationItem) => !item.isRead && (id === undefined || item.id === id);
    if (this.#items.some(isMeant)) {
      this.#set(this.#items.map((item) => (isMeant(item) ? { ...item, isRead: true } : item)));
    }
  };

  readonly dismiss = (id: string): void => this.keep((item) => item.id !== id);

  readonly clear = (): void => this.keep(() => false);

  keep(isKept: (item: NotificationItem) => boolean): void {
    this.#set(this.#items.filter(isKept));
  }

  get #items(): readonly NotificationItem[] {
    return this.state.get().notifications;
  }

  #set(items: readonly NotificationItem[]): void {
    if (items.length === 0 && this.#items.length === 0) return;
    const notifications = items.slice(0, this.#limit);
    this.state.set({ notifications, unread: notifications.filter(({ isRead }) => !isRead).length });
  }
}
