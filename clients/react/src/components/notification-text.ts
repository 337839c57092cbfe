import type { NotificationItem } from "../notifications.js";

/** What a notification says, for people. */
export interface NotificationText {
  readonly title: string;
  readonly detail: string | undefined;
}

/** The sender's fields that say how much it matters, and the values that make a notification urgent. */
const IMPORTANCE = ["level", "severity", "priority"];
const URGENT = ["critical", "high", "urgent"];

/** Whether people should be interrupted. */
export function isUrgent({ kind, data }: NotificationItem): boolean {
  return kind === "system.alert" || IMPORTANCE.some((field) => URGENT.includes(text(data, field) ?? ""));
}

/** The title of the kinds whose fields are known, and the fields that can tell the rest. */
const KNOWN: ReadonlyMap<string, readonly [title: string | undefined, ...fields: string[]]> = new Map([
  ["upload.completed", ["Upload completed", "file"]],
  ["upload.finalized", ["File ready", "file"]],
  ["set.created", ["Set created", "name", "setId"]],
]);

/** What a notification says. Of an unknown kind, its `title`, `text` or `message` are shown, or else the kind. */
export function textOf({ kind, data }: NotificationItem): NotificationText {
  const [known, ...fields] = KNOWN.get(kind) ?? [undefined, "text", "message"];
  const title = known ?? text(data, "title");
  const detail = fields.map((field) => text(data, field)).find(Boolean);
  return title ? { title, detail } : { title: detail ?? kind, detail: undefined };
}

/** The name of the button that dismisses a notification. */
export const dismissLabel = (item: NotificationItem): string => `Dismiss: ${textOf(item).title}`;

/** A field, if it is a text: senders choose what they send. */
function text(data: unknown, field: string): string | undefined {
  const value = (data as Record<string, unknown> | null | undefined)?.[field];
  return typeof value === "string" && value !== "" ? value : undefined;
}
