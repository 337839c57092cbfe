import type { Kind, Message } from "@belfry/client";
import { useEffect } from "react";
import { useSession } from "./context.js";
import { useLatest } from "./use-latest.js";

/**
 * Calls `listener` with each notification of a kind. The listener may be another function in each render.
 *
 * ```tsx
 * useNotification("upload.completed", ({ data }) => reload(data.file));
 * ```
 */
export function useNotification<K extends Kind>(kind: K, listener: (notification: Message<K>) => void): void {
  const { notifications } = useSession();
  const latest = useLatest(listener);
  useEffect(
    () => notifications.onAdded((item) => item.kind === kind && latest.current(item as Message as Message<K>)),
    [notifications, kind, latest],
  );
}
