import type { Position } from "../../../src/index.js";

interface Sent {
  channel: string;
  at: number;
  position?: Position;
}

/** What was published, what of it was acknowledged, and what the test took out of a history. */
export class Ledger {
  readonly #sent = new Map<string, Sent>();
  readonly #expired = new Map<string, number>();

  sent(id: string, channel: string): void {
    this.#sent.set(id, { channel, at: performance.now() });
  }

  acknowledged(id: string, position: Position | undefined): void {
    const sent = this.#sent.get(id);
    if (!sent || !position) throw new Error(`${id} was acknowledged without a position`);
    sent.position = position;
  }

  expired(channel: string, seq: number): void {
    this.#expired.set(channel, Math.max(seq, this.expiredUpTo(channel)));
  }

  /** The messages up to this number may be gone before their time. */
  expiredUpTo(channel: string): number {
    return this.#expired.get(channel) ?? 0;
  }

  sentAt(id: string): number | undefined {
    return this.#sent.get(id)?.at;
  }

  /** The ids of the acknowledged messages of a channel, with their positions. */
  acknowledgedIn(channel: string): Array<[id: string, position: Position]> {
    return [...this.#sent].flatMap(([id, sent]) =>
      sent.channel === channel && sent.position ? [[id, sent.position] as [string, Position]] : [],
    );
  }
}
