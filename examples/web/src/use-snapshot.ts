import { useStatus } from "@belfry/react";
import { useCallback, useEffect, useRef } from "react";
import { get } from "./server.ts";

/**
 * Fetches a state when the page is connected for the first time: messages are missed by nobody from then on. Returns a
 * function to fetch it again, for messages that were lost.
 */
export function useSnapshot<T>(path: string, isSubscribed: boolean, apply: (state: T) => void): () => void {
  const { state } = useStatus();
  const latest = useRef(apply);
  useEffect(() => {
    latest.current = apply;
  });
  const read = useCallback(() => {
    get<T>(path).then(
      (snapshot) => latest.current(snapshot),
      // The page has no server. The next connection fetches it.
      () => {},
    );
  }, [path]);
  const isReady = isSubscribed && state === "connected";
  const hasRead = useRef(false);
  useEffect(() => {
    if (!isReady || hasRead.current) return;
    hasRead.current = true;
    read();
  }, [isReady, read]);
  return read;
}
