import { useSyncExternalStore } from "react";
import type { Store } from "./store.js";

/** The value of a store. */
export function useStore<T>({ add, get, initial }: Store<T>): T {
  return useSyncExternalStore(add, get, () => initial);
}
