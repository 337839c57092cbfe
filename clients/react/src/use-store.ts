import { useSyncExternalStore } from "react";
import type { Store } from "./store.js";

/** The value of a store. */
export function useStore<T>({ subscribe, get, initial }: Store<T>): T {
  return useSyncExternalStore(subscribe, get, () => initial);
}
