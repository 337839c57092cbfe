"use client";

export {
  ConnectionStatusIndicator,
  type ConnectionStatusIndicatorProps,
  type ConnectionStatusLabels,
} from "./components/connection-status-indicator.js";
export {
  NotificationCenter,
  type NotificationCenterLabels,
  type NotificationCenterProps,
} from "./components/notification-center.js";
export {
  NotificationToast,
  type NotificationToastLabels,
  type NotificationToastProps,
} from "./components/notification-toast.js";
export type { NotificationActions, NotificationItem, NotificationState } from "./notifications.js";
export { WebSocketProvider, type WebSocketProviderProps } from "./provider.js";
export type { SessionOptions } from "./session.js";
export type { ChannelState, PresenceState } from "./shared-channel.js";
export type { LockState } from "./shared-lock.js";
export { type Call, useCall } from "./use-call.js";
export { type UseChannel, type UseChannelOptions, useChannel } from "./use-channel.js";
export { type UseLock, useLock } from "./use-lock.js";
export { useNotification } from "./use-notification.js";
export { type UsePresence, usePresence } from "./use-presence.js";
export { useStatus } from "./use-status.js";
export { useWebSocket, type WebSocketState } from "./use-websocket.js";
