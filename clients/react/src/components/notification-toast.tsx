import {
  type FocusEvent,
  type KeyboardEvent,
  type ReactElement,
  type ReactNode,
  useEffect,
  useRef,
  useState,
} from "react";
import { useSession } from "../context.js";
import type { NotificationItem } from "../notifications.js";
import { useLatest } from "../use-latest.js";
import { useStore } from "../use-store.js";
import { Icon } from "./icons.js";
import { NotificationBody } from "./notification-body.js";
import { isUrgent as isUrgentByDefault } from "./notification-text.js";

/** The texts of {@link NotificationToast}. */
export type NotificationToastLabels = Record<"region" | "dismiss", string>;

/** What {@link NotificationToast} takes. */
export interface NotificationToastProps {
  /** The most toasts at a time: 3 by default. Older ones are found in the {@link NotificationCenter}. */
  max?: number;
  /** How long a toast stays: 6,000 ms by default. What is urgent stays until it is dismissed. */
  durationMs?: number;
  /** Whether a notification interrupts people: by default a `system.alert`, and what says that it is `critical`. */
  isUrgent?: (item: NotificationItem) => boolean;
  /** What a toast shows. */
  render?: (item: NotificationItem) => ReactNode;
  /** Other texts, such as translations. */
  labels?: Partial<NotificationToastLabels>;
}

/** The longest time that a browser's timer takes. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Shows new notifications for a while. The time stands still while the pointer or the focus is on a toast. A toast takes
 * no focus by itself; Escape and its button dismiss it, and mark it as read.
 */
export function NotificationToast({
  max = 3,
  durationMs = 6_000,
  isUrgent = isUrgentByDefault,
  render = (item) => <NotificationBody item={item} />,
  labels,
}: NotificationToastProps): ReactElement {
  const { notifications } = useSession();
  const texts = { region: "New notifications", dismiss: "Dismiss", ...labels };
  const { notifications: items } = useStore(notifications.state);
  const [shown, setShown] = useState<readonly string[]>([]);
  const [isHovered, setHovered] = useState(false);
  const [isFocused, setFocused] = useState(false);
  const isPaused = isHovered || isFocused;
  const region = useRef<HTMLElement>(null);
  /** Where the focus was before it came here. */
  const cameFrom = useRef<HTMLElement | null>(null);

  useEffect(() => notifications.onAdded(({ id }) => setShown((before) => [id, ...before])), [notifications]);
  const waiting = shown.flatMap((id) => items.find((item) => item.id === id && !item.isRead) ?? []);
  // A toast that someone points at, or has focused, must not be pushed out by newer ones.
  const room = isPaused ? waiting.length : max;
  const urgent = waiting.filter(isUrgent).slice(0, room);
  const others = waiting.filter((item) => !isUrgent(item)).slice(0, Math.max(0, room - urgent.length));
  useEffect(() => {
    if (urgent.length + others.length < shown.length) setShown([...urgent, ...others].map(({ id }) => id));
  });

  const hide = (id: string) => setShown((before) => before.filter((one) => one !== id));
  const dismiss = (id: string, isByPointer = false) => {
    const toasts = [...(region.current?.querySelectorAll<HTMLElement>("[data-id]") ?? [])];
    const index = toasts.findIndex((toast) => toast.dataset["id"] === id);
    const hasFocus = () => toasts[index]?.contains(document.activeElement);
    if (hasFocus()) {
      // A focus that a pointer has brought goes back: on another toast, it would stop that one's time.
      const next = isByPointer ? undefined : (toasts[index + 1] ?? toasts[index - 1]);
      (next?.querySelector("button") ?? cameFrom.current)?.focus();
      // Browsers do not report the end of a focus whose element is removed.
      if (hasFocus()) (document.activeElement as HTMLElement).blur();
    }
    // Nor does the pointer leave what is removed. If it is on another toast, it will move there.
    setHovered(false);
    hide(id);
    notifications.markRead(id);
  };
  const keyed = ({ key, target }: KeyboardEvent) => {
    const id = (target as HTMLElement).closest<HTMLElement>("[data-id]")?.dataset["id"];
    if (key === "Escape" && id !== undefined) dismiss(id);
  };
  const focused = ({ relatedTarget }: FocusEvent) => {
    if (!region.current?.contains(relatedTarget)) cameFrom.current = relatedTarget as HTMLElement | null;
    setFocused(true);
  };
  const blurred = ({ relatedTarget }: FocusEvent) => setFocused(region.current?.contains(relatedTarget) === true);

  const toast = (item: NotificationItem, isLasting: boolean) => {
    const { id } = item;
    return (
      <div key={id} className="belfry-toast" data-id={id} data-urgent={isLasting}>
        {!isPaused && !isLasting && <Timer ms={durationMs} onEnd={() => hide(id)} />}
        <div className="belfry-body">{render(item)}</div>
        <button
          type="button"
          className="belfry-icon-button"
          aria-label={texts.dismiss}
          onClick={({ detail }) => dismiss(id, detail > 0)}
        >
          <Icon name="bad" />
        </button>
      </div>
    );
  };
  return (
    <section
      ref={region}
      className="belfry-toasts"
      aria-label={texts.region}
      onMouseMove={() => setHovered(true)}
      onMouseLeave={() => setHovered(false)}
      onFocus={focused}
      onBlur={blurred}
      onKeyDown={keyed}
    >
      {/* Screen readers only announce what is added to regions that are there before. */}
      <div role="alert" aria-atomic="false">
        {urgent.map((item) => toast(item, true))}
      </div>
      <div role="status" aria-atomic="false">
        {others.map((item) => toast(item, false))}
      </div>
    </section>
  );
}

/** Calls back after a while, as long as it is shown. */
function Timer({ ms, onEnd }: { ms: number; onEnd: () => void }): null {
  const end = useLatest(onEnd);
  useEffect(() => {
    const timer = setTimeout(() => end.current(), Math.min(ms, MAX_TIMER_MS));
    return () => clearTimeout(timer);
  }, [ms, end]);
  return null;
}
