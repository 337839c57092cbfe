import { expect } from "vitest";
import type { Position } from "../../../src/index.js";
import type { Ledger } from "./ledger.js";
import type { Kept } from "./reader.js";
import type { ToldLoss, Witness } from "./witness.js";

/** A message that is older is gone from a history of a minute. */
const BRIEF_MS = 60_000;
/** The most messages that a subscription recovers. */
const MAX_RECOVERED = 300;

/** Every message of a channel that anybody knows of, by its number. */
export type Log = Map<number, string>;

/** Puts a log together. Fails if anybody knows another message by a number, or another number of a message. */
export function logOf(channel: string, kept: Kept, ledger: Ledger, witnesses: Witness[]): Log {
  const { epoch, seq: top } = kept.newest;
  const log: Log = new Map(kept.ids);
  const numbers = new Map([...log].map(([seq, id]) => [id, seq]));
  expect(numbers.size, `${channel}: each message is in the history once`).toBe(log.size);
  const compare = (source: string, id: string, position: Position) => {
    const { seq } = position;
    expect(position, `${channel}: the position of ${id}, says ${source}`).toEqual({ epoch, seq });
    expect(seq).toBeLessThanOrEqual(top);
    expect([log.get(seq) ?? id, numbers.get(id) ?? seq], `${channel}: the message ${seq}, says ${source}`).toEqual([
      id,
      seq,
    ]);
    log.set(seq, id);
    numbers.set(id, seq);
  };
  for (const [id, position] of ledger.acknowledgedIn(channel)) compare("its publisher", id, position);
  for (const { told } of witnesses) {
    for (const one of told) if ("id" in one) compare("a subscriber", one.id, one.position);
  }
  return log;
}

/**
 * Fails unless a client was told of every message, in order and once, or that it is lost where the log has lost it.
 * Returns how often that was, and how far the client has got.
 */
export function checkWitness(who: string, witness: Witness, log: Log, ledger: Ledger): { losses: number; seq: number } {
  const { name, told, begin } = witness;
  let seq = begin?.seq ?? Number.NaN;
  let losses = 0;
  for (const one of told) {
    const where = `${who} in ${name}, after ${seq}`;
    if ("id" in one) {
      expect(one.position.seq, where).toBe(seq + 1);
      seq += 1;
    } else {
      losses += 1;
      expect(one.lost.from?.seq, where).toBe(seq);
      expect(isReal(one, log, ledger), `${where}: ${JSON.stringify(one)} is a real loss`).toBe(true);
      seq = one.lost.to?.seq ?? Number.NaN;
    }
  }
  return { losses, seq };
}

/** Whether the history no longer had what a client was told is lost. */
function isReal({ lost, at, expiredUpTo }: ToldLoss, log: Log, ledger: Ledger): boolean {
  const [from, to] = [lost.from?.seq ?? Number.NaN, lost.to?.seq ?? Number.NaN];
  if (lost.reason === "tooFar") return to - from > MAX_RECOVERED;
  if (lost.reason !== "expired") return false;
  const first = log.get(from + 1);
  const sentAt = first === undefined ? undefined : ledger.sentAt(first);
  return from + 1 <= expiredUpTo || (sentAt !== undefined && at - sentAt >= BRIEF_MS);
}
