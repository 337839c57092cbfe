import { type KeyboardEvent, type ReactElement, type ReactNode, useEffect, useId, useRef, useState } from "react";
import { useSession } from "../context.js";
import type { NotificationItem } from "../notifications.js";
import { useStore } from "../use-store.js";
import { Icon } from "./icons.js";
import { NotificationBody } from "./notification-body.js";
import { dismissLabel } from "./notification-text.js";

/** The texts of {@link NotificationCenter}. */
export interface NotificationCenterLabels {
  title: string;
  /** The name of the button, with the number of unread notifications. */
  button: (unread: number) => string;
  markAllRead: string;
  clear: string;
  /** The name of the button that removes an entry. */
  dismiss: (item: NotificationItem) => string;
  unread: string;
  empty: string;
  /** What the list and screen readers say if notifications were lost. */
  lost: string;
}

/** Props of {@link NotificationCenter}. */
export interface NotificationCenterProps {
  /** What an entry of the list shows: text, and no buttons or links, because the entry is a button. */
  render?: (item: NotificationItem) => ReactNode;
  /** Is called when the user chooses an entry. The entry is marked as read, too. */
  onSelect?: (item: NotificationItem) => void;
  /** Other texts, such as translations. */
  labels?: Partial<NotificationCenterLabels>;
}

const LABELS: NotificationCenterLabels = {
  title: "Notifications",
  button: (unread) => (unread > 0 ? `Notifications, ${unread} unread` : "Notifications"),
  markAllRead: "Mark all as read",
  clear: "Clear",
  dismiss: dismissLabel,
  unread: "Unread",
  empty: "No notifications",
  lost: "Some notifications may be missing",
};

/**
 * A button with the number of unread notifications, which opens a list of all. The arrow keys, Home and End move in the
 * list, Delete removes an entry, and Escape closes the list.
 */
export function NotificationCenter({
  render = (item) => <NotificationBody item={item} />,
  onSelect,
  labels,
}: NotificationCenterProps): ReactElement {
  const { notifications } = useSession();
  const { notifications: items, unread, lost } = useStore(notifications.state);
  const texts = { ...LABELS, ...labels };
  const [isOpen, setOpen] = useState(false);
  /** The entry that the Tab key reaches. */
  const [activeId, setActiveId] = useState<string | undefined>();
  const active = (items.find(({ id }) => id === activeId) ?? items[0])?.id;
  const panelId = useId();
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const list = useRef<HTMLUListElement>(null);
  /** Which entry gets the focus when the list is shown without another one. */
  const nextFocus = useRef<number | undefined>(undefined);

  const entries = () => [...(list.current?.querySelectorAll<HTMLElement>(".belfry-entry") ?? [])];

  useEffect(() => {
    if (nextFocus.current === undefined) return;
    const all = entries();
    (all[Math.min(nextFocus.current, all.length - 1)] ?? button.current)?.focus();
    nextFocus.current = undefined;
  });
  useEffect(() => {
    const left = ({ target }: Event) => {
      if (!root.current?.contains(target as Node)) setOpen(false);
    };
    const listening = new AbortController();
    for (const type of ["pointerdown", "focusin"]) document.addEventListener(type, left, listening);
    return () => listening.abort();
  }, []);

  const dismiss = (id: string) => {
    nextFocus.current = items.findIndex((item) => item.id === id);
    notifications.actions.dismiss(id);
  };
  const keyed = (event: KeyboardEvent) => {
    if (!isOpen) return;
    const all = entries();
    const index = all.indexOf(event.target as HTMLElement);
    if (event.key === "Escape") {
      setOpen(false);
      button.current?.focus();
    } else if (event.key === "Delete" && index >= 0) {
      dismiss(items[index]?.id ?? "");
    } else if (index >= 0 || event.target === button.current) {
      const steps: Record<string, number> = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: all.length - 1 };
      const next = steps[event.key];
      if (next === undefined) return;
      all[next]?.focus();
    } else {
      return;
    }
    event.preventDefault();
  };

  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the keys reach it from the buttons inside
    <div ref={root} className="belfry-center" onKeyDown={keyed}>
      <button
        ref={button}
        type="button"
        className="belfry-icon-button"
        aria-expanded={isOpen}
        aria-controls={panelId}
        aria-label={texts.button(unread)}
        onClick={() => setOpen(!isOpen)}
      >
        <Icon name="bell" />
        {unread > 0 && (
          <span className="belfry-badge" aria-hidden="true">
            {unread > 99 ? "99+" : unread}
          </span>
        )}
      </button>
      {/* It must be there before its text is, and outside of what is hidden. */}
      <span className="belfry-hidden" role="status">
        {lost && texts.lost}
      </span>
      <section id={panelId} className="belfry-panel" aria-label={texts.title} hidden={!isOpen}>
        {!isOpen ? null : items.length === 0 && !lost ? (
          <p className="belfry-empty">{texts.empty}</p>
        ) : (
          <>
            <div className="belfry-actions">
              <button
                type="button"
                className="belfry-button"
                onClick={() => {
                  notifications.actions.markRead();
                }}
              >
                {texts.markAllRead}
              </button>
              <button
                type="button"
                className="belfry-button"
                onClick={() => {
                  nextFocus.current = 0;
                  notifications.actions.clear();
                }}
              >
                {texts.clear}
              </button>
            </div>
            {lost && <p className="belfry-empty">{texts.lost}</p>}
            <ul ref={list} className="belfry-list">
              {items.map((item) => (
                <li key={item.id} className="belfry-item" data-read={item.isRead}>
                  <button
                    type="button"
                    className="belfry-entry"
                    tabIndex={item.id === active ? 0 : -1}
                    onFocus={() => setActiveId(item.id)}
                    onClick={() => {
                      notifications.actions.markRead(item.id);
                      onSelect?.(item);
                    }}
                  >
                    {!item.isRead && <span className="belfry-hidden">{texts.unread}</span>}
                    {render(item)}
                  </button>
                  <button
                    type="button"
                    className="belfry-icon-button"
                    tabIndex={item.id === active ? 0 : -1}
                    aria-label={texts.dismiss(item)}
                    onClick={() => dismiss(item.id)}
                  >
                    <Icon name="bad" />
                  </button>
                </li>
              ))}
            </ul>
          </>
        )}
      </section>
    </div>
  );
}
