import { type RefObject, useInsertionEffect, useRef } from "react";

/** The value of the last render that was shown, for callbacks that outlive it. */
export function useLatest<T>(value: T): Readonly<RefObject<T>> {
  const latest = useRef(value);
  // Earlier than any effect that could call it. Servers warn of layout effects.
  useInsertionEffect(() => {
    latest.current = value;
  });
  return latest;
}
