import { describe, expect, it } from "vitest";
import type { KeptFrame } from "../../src/generated/frames.js";
import { type Lost, Ordering } from "../../src/recovery/ordering.js";

function message(seq: number, epoch = "e1"): KeptFrame {
  return { type: "message", version: "1.0", position: { epoch, seq }, data: { kind: "k", data: seq } };
}

function ordering() {
  const delivered: number[] = [];
  const lost: Lost[] = [];
  const subject = new Ordering(
    (frame) => delivered.push(frame.position?.seq ?? 0),
    (one) => lost.push(one),
  );
  return { subject, delivered, lost };
}

describe("a new subscription", () => {
  it("begins at the position in the answer", () => {
    const { subject, delivered } = ordering();
    expect(subject.answer({ epoch: "e1", seq: 4 })).toBe(false);
    subject.receive(message(5));
    expect(delivered).toEqual([5]);
    expect(subject.position).toEqual({ epoch: "e1", seq: 5 });
  });

  it("begins with what arrived before the answer, although the answer counts it", () => {
    const { subject, delivered } = ordering();
    for (const seq of [6, 4, 5]) subject.receive(message(seq));
    expect(delivered).toEqual([]);
    subject.answer({ epoch: "e1", seq: 5 });
    expect(delivered).toEqual([4, 5, 6]);
    expect(subject.hasGap).toBe(false);
  });

  it("asks for what is missing after a message that arrived before the answer", () => {
    const { subject, delivered } = ordering();
    for (const seq of [4, 6]) subject.receive(message(seq));
    expect(subject.answer({ epoch: "e1", seq: 7 })).toBe(true);
    expect(delivered).toEqual([4]);
    expect(subject.position).toEqual({ epoch: "e1", seq: 4 });
  });

  it("to an empty history takes the first message, whatever its epoch", () => {
    const { subject, delivered, lost } = ordering();
    subject.answer({ epoch: "none1", seq: 0 });
    subject.receive(message(2));
    expect(subject.answer({ epoch: "none2", seq: 0, recovered: true, messages: [] })).toBe(false);
    subject.receive(message(1));
    expect(delivered).toEqual([1, 2]);
    expect(subject.position).toEqual({ epoch: "e1", seq: 2 });
    expect(lost).toEqual([]);
  });

  it("delivers at once what has no position", () => {
    const { subject, delivered } = ordering();
    subject.receive({ type: "message", version: "1.0", data: { kind: "k" } });
    expect(delivered).toEqual([0]);
  });
});

describe("live messages", () => {
  it("are put in order, each once", () => {
    const { subject, delivered } = ordering();
    subject.answer({ epoch: "e1", seq: 0 });
    for (const seq of [2, 1, 2, 4, 1, 3, 4]) subject.receive(message(seq));
    expect(delivered).toEqual([1, 2, 3, 4]);
  });

  it("wait for a missing one", () => {
    const { subject, delivered } = ordering();
    subject.answer({ epoch: "e1", seq: 0 });
    subject.receive(message(2));
    expect(subject.hasGap).toBe(true);
    expect(delivered).toEqual([]);
  });

  it("do not pile up without limit while one is missing", () => {
    const { subject, delivered } = ordering();
    subject.answer({ epoch: "e1", seq: 0 });
    for (let seq = 2; seq <= 2_000; seq += 1) subject.receive(message(seq));
    subject.receive(message(1));
    expect(delivered.length).toBeLessThan(1_000);
    expect(delivered).toEqual(delivered.map((_, index) => index + 1));
  });
});

describe("an answer to a position", () => {
  it("is merged with live messages", () => {
    const { subject, delivered, lost } = ordering();
    subject.answer({ epoch: "e1", seq: 2 });
    subject.receive(message(6));
    subject.receive(message(3));
    const more = subject.answer({
      epoch: "e1",
      seq: 5,
      recovered: true,
      messages: [3, 4, 5].map((seq) => message(seq)),
    });
    expect(more).toBe(false);
    expect(delivered).toEqual([3, 4, 5, 6]);
    expect(lost).toEqual([]);
  });

  it("says that more follows", () => {
    const { subject } = ordering();
    subject.answer({ epoch: "e1", seq: 0 });
    expect(subject.answer({ epoch: "e1", seq: 9, recovered: true, messages: [message(1)] })).toBe(true);
  });

  it("reports a loss and goes on after it", () => {
    const { subject, delivered, lost } = ordering();
    subject.answer({ epoch: "e1", seq: 2 });
    subject.receive(message(9));
    subject.answer({ epoch: "e1", seq: 8, recovered: false, reason: "expired", messages: [] });
    expect(lost).toEqual([{ reason: "expired", from: { epoch: "e1", seq: 2 }, to: { epoch: "e1", seq: 8 } }]);
    expect(delivered).toEqual([9]);
  });

  it("reports a new history, and takes its messages", () => {
    const { subject, delivered, lost } = ordering();
    subject.answer({ epoch: "e1", seq: 7 });
    subject.receive(message(1, "e2"));
    subject.receive(message(2, "e2"));
    expect(subject.hasGap).toBe(true);
    subject.answer({ epoch: "e2", seq: 1, recovered: false, reason: "epoch", messages: [] });
    expect(lost.map(({ reason }) => reason)).toEqual(["epoch"]);
    expect(delivered).toEqual([2]);
  });

  it("drops stragglers of an older history", () => {
    const { subject, delivered } = ordering();
    subject.answer({ epoch: "e2", seq: 1 });
    subject.receive(message(8, "e1"));
    expect(subject.answer({ epoch: "e2", seq: 1, recovered: true, messages: [] })).toBe(false);
    expect(subject.hasGap).toBe(false);
    expect(delivered).toEqual([]);
  });

  it("does not report as lost what was delivered meanwhile", () => {
    const { subject, lost } = ordering();
    subject.answer({ epoch: "e1", seq: 0 });
    for (const seq of [1, 2, 3]) subject.receive(message(seq));
    subject.answer({ epoch: "e1", seq: 3, recovered: false, reason: "tooFar", messages: [] });
    expect(lost).toEqual([]);
  });
});
