import { useStatus } from "@belfry/react";
import { useCallback, useEffect, useRef } from "react";
import { get } from "./server.ts";

/**
 * Fetches a state when the page is connected for the first time. From then on, the subscription misses nothing. Returns a
 * function to fetch it again, for messages that were lost.
 */
export function useSnapshot<T>(path: string, isSubscribed: boolean, apply: (state: T) => void): () => void {
  const { state } = useStatus();
  const latest = useRef(apply);
  useEffect(() => {
    latest.current = apply;
  });
  const hasRead = useRef(false);
  const read = useCallback(() => {
    hasRead.current = false;
    get<T>(path).then(
      (snapshot) => {
        hasRead.current = true;
        latest.current(snapshot);
      },
      // The page has no server. The next connection fetches it.
      () => {},
    );
  }, [path]);
  const isReady = isSubscribed && state === "connected";
  useEffect(() => {
    if (isReady && !hasRead.current) read();
  }, [isReady, read]);
  return read;
}
