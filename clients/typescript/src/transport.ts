import { type Advice, closeAdvice } from "./generated/advice.js";

/** Everything that a transport needs to open a link. */
export interface LinkRequest {
  url: string;
  token: string;
  /** The id of the connection that this one replaces. */
  replaces: string | undefined;
}

export interface LinkEvents {
  opened(): void;
  /** A frame has arrived. */
  received(text: unknown): void;
  /** The link has ended, or could not be opened. Nothing follows. */
  closed(code: number): void;
}

/** One open way to the server. */
export interface Link {
  send(text: string): void;
  /** Ends the link. No event follows. */
  close(): void;
}

/** A way to carry frames. */
export interface Transport {
  /** Opens a link. Throws if the request can never succeed. */
  open(request: LinkRequest, events: LinkEvents): Link;
}

/** What to do after a link ended with this code, if no error frame said more. */
export function adviceAfter(code: number): Advice {
  return closeAdvice[code] ?? "retryLater";
}
