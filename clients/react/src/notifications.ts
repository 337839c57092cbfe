import type { LostIn, Message } from "@belfry/client";
import { Listeners } from "./listeners.js";
import { Store } from "./store.js";

/** A notification in the list. */
export interface NotificationItem extends Message {
  /** The sender's id, or one made up if there is none, or if another notification in the list has it. */
  readonly id: string;
  readonly isRead: boolean;
}

/** The list of notifications, its unread count, and its last loss. */
export interface NotificationState {
  /** Newest first. */
  readonly notifications: readonly NotificationItem[];
  /** How many of them have not been read. */
  readonly unread: number;
  /** The last loss of notifications. `null` if there was none since `clear`. */
  readonly lost: LostIn | null;
}

/** What the application does with notifications. */
export interface NotificationActions {
  /** Marks a notification as read. Without an id, all of them. */
  markRead(this: void, id?: string): void;
  /** Removes a notification. */
  dismiss(this: void, id: string): void;
  /** Removes every notification, and forgets the loss. */
  clear(this: void): void;
}

/** How many notifications are remembered, so that a repeated one is dropped even after it was dismissed. */
const REMEMBERED = 1_000;

/** The newest notifications, each once. */
export class Notifications {
  readonly state: Store<NotificationState> = new Store<NotificationState>({ notifications: [], unread: 0, lost: null });
  readonly #added = new Listeners<NotificationItem>();
  readonly #seen = new Set<string>();
  readonly #limit: () => number;
  #made = 0;

  readonly actions: NotificationActions = {
    markRead: (id) => {
      const isMeant = (item: NotificationItem) => !item.isRead && (id === undefined || item.id === id);
      if (this.#items.some(isMeant)) {
        this.#set(this.#items.map((item) => (isMeant(item) ? { ...item, isRead: true } : item)));
      }
    },
    dismiss: (id) => this.#set(this.#items.filter((item) => item.id !== id)),
    clear: () => this.#set([], null),
  };

  /** Tells of each notification that is added. */
  readonly onAdded: Listeners<NotificationItem>["add"] = this.#added.add;

  constructor(limit: () => number) {
    this.#limit = limit;
  }

  /** Returns whether the notification is a new one. */
  add(message: Message): boolean {
    let { id, channel, from } = message;
    const key = JSON.stringify([channel, from, id]);
    if (id !== undefined && this.#seen.has(key)) return false;
    this.#seen.add(key);
    const [oldest] = this.#seen;
    if (oldest !== undefined && this.#seen.size > REMEMBERED) this.#seen.delete(oldest);
    // Two senders may use the same id.
    while (id === undefined || this.#items.some((item) => item.id === id)) id = `unnamed-${++this.#made}`;
    const item = { ...message, id, isRead: false };
    this.#set([item, ...this.#items]);
    this.#added.tell(item);
    return true;
  }

  lose(lost: LostIn): void {
    this.#set(this.#items, lost);
  }

  /** Another user has connected: keeps only what is for everyone. */
  forget(): void {
    this.#seen.clear();
    this.#set(
      this.#items.filter(({ channel }) => channel === "@all"),
      null,
    );
  }

  get #items(): readonly NotificationItem[] {
    return this.state.get().notifications;
  }

  #set(items: readonly NotificationItem[], lost = this.state.get().lost): void {
    if (items.length === 0 && this.#items.length === 0 && lost === this.state.get().lost) return;
    const notifications = items.slice(0, this.#limit());
    this.state.set({ notifications, unread: notifications.filter(({ isRead }) => !isRead).length, lost });
  }
}
