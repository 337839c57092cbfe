import type { Belfry, Status } from "@belfry/client";
import { useSession } from "./context.js";
import type { NotificationState } from "./notifications.js";
import { useStore } from "./use-store.js";

/** What {@link useWebSocket} returns. */
export interface WebSocketState extends NotificationState {
  /** The client. `null` on a server, and until the provider is mounted. */
  readonly client: Belfry | null;
  /** The state of the connection. */
  readonly status: Status;
  /** Marks a notification as read. Without an id, all of them. */
  markRead(this: void, id?: string): void;
  /** Removes a notification. */
  dismiss(this: void, id: string): void;
  /** Removes every notification. */
  clear(this: void): void;
  /** Connects again after the state `closed`, for example when the user has signed in again. */
  connect(this: void): void;
  /** Closes the connection until {@link WebSocketState.connect} is called. */
  close(this: void): void;
}

/**
 * The client, the state of its connection, and the notifications. A component that shows the state alone renders less
 * often with {@link useStatus}.
 */
export function useWebSocket(): WebSocketState {
  const session = useSession();
  const { connect, close, notifications } = session;
  const { markRead, dismiss, clear } = notifications;
  const client = useStore(session.client);
  const status = useStore(session.status);
  const state = useStore(notifications.state);
  return { client, status, ...state, markRead, dismiss, clear, connect, close };
}
