import type { ReactElement } from "react";
import type { NotificationItem } from "../notifications.js";
import { textOf } from "./notification-text.js";

/** How a notification looks, unless the application renders it. */
export function NotificationBody({ item }: { item: NotificationItem }): ReactElement {
  const { title, detail } = textOf(item);
  const { timestamp = "" } = item;
  const time = Date.parse(timestamp);
  return (
    <>
      <span className="belfry-title">{title}</span>
      {detail && <span className="belfry-detail">{detail}</span>}
      {time > 0 && (
        <time className="belfry-time" dateTime={timestamp}>
          {new Date(time).toLocaleTimeString([], { timeStyle: "short" })}
        </time>
      )}
    </>
  );
}
