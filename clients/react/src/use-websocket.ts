import type { Belfry, Status } from "@belfry/client";
import { useSession } from "./context.js";
import type { NotificationActions, NotificationState } from "./notifications.js";
import { useStore } from "./use-store.js";

/** The connection and the notifications of the nearest provider. */
export interface WebSocketState extends NotificationState, NotificationActions {
  /** The client. `null` on a server, and until the provider is mounted. */
  readonly client: Belfry | null;
  /** The state of the connection. */
  readonly status: Status;
  /** Connects again after the state `closed`, for example when the user has signed in again. */
  connect(this: void): void;
  /** Closes the connection until {@link WebSocketState.connect} is called. */
  close(this: void): void;
}

/**
 * The client, the state of its connection, and the notifications. A component that shows the state alone re-renders less
 * often with {@link useStatus}.
 */
export function useWebSocket(): WebSocketState {
  const { client, status, notifications, connect, close } = useSession();
  return {
    client: useStore(client) ?? null,
    status: useStore(status),
    ...useStore(notifications.state),
    ...notifications.actions,
    connect,
    close,
  };
}
