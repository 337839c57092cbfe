// What this application publishes and calls.
declare module "@belfry/client" {
  interface Kinds {
    "threat.detected": Change<Threat>;
    "threat.updated": Change<Threat>;
    "threat.resolved": Change<Threat>;
    "encounter.started": Change<Encounter>;
    "encounter.updated": Change<Encounter>;
    "encounter.completed": Change<Encounter>;
    "system.health": Change<Service>;
    "system.alert": { text: string; level: string };
    "transcription.chunk": { id: number; index: number; text: string };
    "transcription.progress": { id: number; percent: number };
    "transcription.complete": { id: number; words: number };
    "quote.changed": { id: string; quote: Quote; changed: QuoteField[]; by: string };
  }
  interface Calls {
    "quote.get": { data: { id: string }; result: QuoteResult };
    "quote.edit": { data: { id: string; version: number; set: Partial<Quote> }; result: QuoteResult };
  }
}

/** Something on the board, with the number of its last change. */
interface Item {
  id: string;
  revision: number;
}

type Change<T> = T & { sentAt: number };

export interface Threat extends Item {
  title: string;
  source: string;
  severity: "low" | "medium" | "high" | "critical";
  status: "detected" | "contained" | "resolved";
}

export interface Encounter extends Item {
  title: string;
  status: string;
}

export interface Service extends Item {
  load: number;
  status: "ok" | "busy";
}

export interface Quote {
  version: number;
  driverAge: number;
  carValue: number;
  excess: number;
  cover: "liability" | "full";
  /** In cents. */
  premium: number;
}

export type QuoteField = "driverAge" | "carValue" | "excess" | "cover";

export type QuoteResult =
  | { ok: true; quote: Quote }
  | { ok: false; reason: "conflict"; quote: Quote }
  | { ok: false; reason: "invalid"; fields: string[]; quote?: Quote };
