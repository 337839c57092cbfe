import { describe, expect, it } from "vitest";
import { backoff } from "../../src/backoff.js";

describe("backoff", () => {
  it("waits 1, 2, 4, 8, 16 and then 30 seconds", () => {
    const waits = [1, 2, 3, 4, 5, 6, 7, 100].map((failures) => backoff(failures, { random: () => 1 - Number.EPSILON }));
    expect(waits.map(Math.round)).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
  });

  it("takes a random part from a half to the whole", () => {
    expect(backoff(3, { random: () => 0 })).toBe(2_000);
    expect(backoff(3, { random: () => 0.5 })).toBe(3_000);
  });
});
