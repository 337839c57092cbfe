import { useLock } from "@belfry/react";
import { type ReactElement, type ReactNode, useEffect, useId, useRef, useState } from "react";
import type { QuoteField } from "../kinds.ts";

/** How long after the last change a value is saved: a slider makes many on its way. */
const SETTLED_MS = 250;

interface FieldProps<T> {
  channel: string;
  userId: string;
  field: QuoteField;
  label: string;
  value: T;
  /** Whether nothing can be edited now. */
  isOff: boolean;
  save(value: T): Promise<void>;
  children(control: Control<T>): ReactNode;
}

interface Control<T> {
  id: string;
  value: T;
  disabled: boolean;
  "aria-describedby": string;
  onFocus(): void;
  onBlur(): void;
  change(value: T): void;
}

/** A field that only one person edits at a time: who focuses it has its lock. */
export function Field<T extends string | number>(props: FieldProps<T>): ReactElement {
  const { channel, userId, field, label, value, isOff, save, children } = props;
  const id = useId();
  const { state, holder, lock, unlock } = useLock(channel, field);
  const [draft, setDraft] = useState<T>();
  const timer = useRef<number>(undefined);
  const saving = useRef(Promise.resolve());
  const pending = useRef<T>(undefined);
  const hasFocus = useRef(false);
  const [isRefused, setIsRefused] = useState(false);
  useEffect(() => () => clearTimeout(timer.current), []);

  const flush = () => {
    clearTimeout(timer.current);
    const wanted = pending.current;
    if (wanted === undefined) return;
    pending.current = undefined;
    saving.current = saving.current.then(async () => {
      // Asked for when the field got the focus; usually long granted.
      const isMine = await lock();
      setIsRefused(!isMine);
      if (isMine) await save(wanted);
      // Some browsers give a list no focus, so nothing would ever lose it.
      if (!hasFocus.current) await unlock();
      if (pending.current === undefined) setDraft(undefined);
    });
  };
  const change = (next: T) => {
    // An empty number is somebody who is still typing.
    if (typeof next === "number" && Number.isNaN(next)) return;
    setDraft(next);
    pending.current = next;
    clearTimeout(timer.current);
    timer.current = window.setTimeout(flush, SETTLED_MS);
  };
  const enter = () => {
    hasFocus.current = true;
    void lock();
  };
  const leave = () => {
    hasFocus.current = false;
    flush();
    saving.current = saving.current.then(() => unlock());
  };

  const isTaken = state === "taken";
  const who = holder?.userId === userId ? "You, in another tab," : holder?.userId;
  return (
    <div className={`field field-${state} field-of-${field}`} data-testid={`field-${field}`}>
      <label htmlFor={id}>{label}</label>
      {children({
        id,
        value: draft ?? value,
        disabled: isOff || isTaken,
        change,
        "aria-describedby": `${id}-lock`,
        onFocus: enter,
        onBlur: leave,
      })}
      <span id={`${id}-lock`} className="lock">
        {isTaken && (
          <>
            <svg viewBox="0 0 16 16" aria-hidden="true">
              <path d="M4 7V5a4 4 0 0 1 8 0v2h1v7H3V7Zm2 0h4V5a2 2 0 0 0-4 0Z" />
            </svg>
            {`${who} ${holder?.userId === userId ? "are" : "is"} editing`}
          </>
        )}
        {state === "held" && "Yours while you edit"}
        {state === "free" && isRefused && "Not saved: try again"}
      </span>
    </div>
  );
}
