import {
  type Dispatch,
  type FocusEvent,
  type KeyboardEvent,
  type ReactElement,
  type ReactNode,
  type SetStateAction,
  useEffect,
  useRef,
  useState,
} from "react";
import { useSession } from "../context.js";
import type { NotificationItem } from "../notifications.js";
import { useStore } from "../use-store.js";
import { Icon } from "./icons.js";
import { NotificationBody } from "./notification-body.js";
import { dismissLabel, isUrgent as isUrgentByDefault } from "./notification-text.js";

/** The texts of {@link NotificationToast}. */
export interface NotificationToastLabels {
  region: string;
  /** The name of the button that dismisses a toast. */
  dismiss: (item: NotificationItem) => string;
}

/** Props of {@link NotificationToast}. */
export interface NotificationToastProps {
  /**
   * The most toasts at a time: 3 by default. Urgent ones are shown in any case. Older ones are in the
   * {@link NotificationCenter}.
   */
  max?: number;
  /** How long a toast stays: 6,000 ms by default. An urgent one stays until it is dismissed. */
  durationMs?: number;
  /** Whether a notification interrupts people: by default if it is a `system.alert`, or says that it is `critical`. */
  isUrgent?: (item: NotificationItem) => boolean;
  /** What a toast shows. */
  render?: (item: NotificationItem) => ReactNode;
  /** Other texts, such as translations. */
  labels?: Partial<NotificationToastLabels>;
}

type SetShown = Dispatch<SetStateAction<readonly string[]>>;

/** The longest time that a browser's timer takes. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Shows new notifications for a while. The time begins anew when the pointer or the focus has left the toasts. A toast
 * takes no focus by itself; Escape and its button dismiss it, and mark it as read.
 */
export function NotificationToast({
  max = 3,
  durationMs = 6_000,
  isUrgent = isUrgentByDefault,
  render = (item) => <NotificationBody item={item} />,
  labels,
}: NotificationToastProps): ReactElement {
  const { notifications } = useSession();
  const texts = { region: "New notifications", dismiss: dismissLabel, ...labels };
  const { notifications: items } = useStore(notifications.state);
  const [shown, setShown] = useState<readonly string[]>([]);
  const [isHovered, setHovered] = useState(false);
  const [isFocused, setFocused] = useState(false);
  const isPaused = isHovered || isFocused;
  const region = useRef<HTMLElement>(null);
  /** Where the focus was before it came here. */
  const cameFrom = useRef<HTMLElement | null>(null);

  useEffect(() => notifications.onAdded(({ id }) => setShown((before) => [id, ...before])), [notifications]);
  const waiting = items.filter(({ id, isRead }) => !isRead && shown.includes(id));
  // A toast that someone points at, or has focused, must not be pushed out by newer ones.
  const room = isPaused ? waiting.length : max;
  const urgent = waiting.filter(isUrgent);
  const others = waiting.filter((item) => !isUrgent(item)).slice(0, Math.max(0, room - urgent.length));
  const kept = [...urgent, ...others].map(({ id }) => id);
  useEffect(() => {
    if (kept.length >= shown.length) return;
    // There may be newer ones by now.
    setShown((before) => before.filter((id) => kept.includes(id) || !shown.includes(id)));
    // Browsers report neither the end of a focus whose element is removed, nor that the pointer leaves it. If the pointer
    // is on another toast, it will move there.
    setHovered(false);
    setFocused(!!region.current?.contains(document.activeElement));
  });

  const toasts = () => [...(region.current?.querySelectorAll(".belfry-toast") ?? [])];
  const dismiss = (index: number, isByPointer = false) => {
    const all = toasts();
    if (all[index]?.contains(document.activeElement)) {
      // A focus that a pointer has brought goes back: on another toast, it would stop that one's time.
      const next = isByPointer ? undefined : (all[index + 1] ?? all[index - 1]);
      (next?.querySelector("button") ?? cameFrom.current)?.focus();
    }
    notifications.actions.markRead(kept[index] ?? "");
  };
  const keyed = ({ key, target }: KeyboardEvent) => {
    if (key === "Escape") dismiss(toasts().findIndex((one) => one.contains(target as Node)));
  };
  const focused = ({ relatedTarget }: FocusEvent) => {
    if (!region.current?.contains(relatedTarget)) cameFrom.current = relatedTarget as HTMLElement | null;
    setFocused(true);
  };
  const blurred = ({ relatedTarget }: FocusEvent) => setFocused(!!region.current?.contains(relatedTarget));

  const toast = (item: NotificationItem, isLasting: boolean) => {
    const { id } = item;
    return (
      <div key={id} className="belfry-toast" data-urgent={isLasting}>
        {!isPaused && !isLasting && <Timer ms={durationMs} id={id} setShown={setShown} />}
        <div className="belfry-body">{render(item)}</div>
        <button
          type="button"
          className="belfry-icon-button"
          aria-label={texts.dismiss(item)}
          onClick={({ detail }) => dismiss(kept.indexOf(id), detail > 0)}
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

/** Removes a toast after a while. */
function Timer({ ms, id, setShown }: { ms: number; id: string; setShown: SetShown }): null {
  useEffect(() => {
    const hide = () => setShown((before) => before.filter((one) => one !== id));
    const timer = setTimeout(hide, Math.min(ms, MAX_TIMER_MS));
    return () => clearTimeout(timer);
  }, [ms, id, setShown]);
  return null;
}
