import type { KeptFrame, ServerFrame } from "./generated/frames.js";

/** API Gateway's own error frame. */
export interface GatewayError {
  type: undefined;
  message: string;
}

/** Reads a frame. `undefined` for anything that is none. */
export function parseFrame(text: unknown): ServerFrame | GatewayError | undefined {
  if (typeof text !== "string") return undefined;
  let frame: unknown;
  try {
    frame = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(frame)) return undefined;
  const { type, message, data } = frame;
  if (type === undefined && typeof message === "string") return { type, message };
  const isBare = type === "ping" || type === "pong" || type === "result";
  return typeof type === "string" && (isBare || isObject(data)) ? (frame as unknown as ServerFrame) : undefined;
}

/** The frames that a frame consists of: for `batch`, those that other clients get one by one. */
export function framesIn(frame: ServerFrame): ServerFrame[] {
  if (frame.type !== "batch") return [frame];
  const { messages } = frame.data;
  return Array.isArray(messages) ? messages.filter((one) => isObject(one) && isMessage(one) && isObject(one.data)) : [];
}

/** Whether a frame is a message to the application. */
export function isMessage(frame: ServerFrame): frame is KeptFrame {
  return frame.type === "message" || frame.type === "notification";
}

/** The time from one of the server's timestamps to another, in milliseconds: the two clocks may differ. */
export function between(from: string | undefined, to: string): number {
  const ms = Date.parse(to) - (from ? Date.parse(from) : Date.now());
  return Number.isFinite(ms) ? Math.max(ms, 0) : 0;
}

export function bytesOf(text: string): number {
  return new TextEncoder().encode(text).length;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
