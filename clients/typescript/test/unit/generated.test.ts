import { expect, it } from "vitest";
import { outOfDate } from "../../tools/generate.mjs";

it("the generated types agree with schemas/ and docs/PROTOCOL.md", () => {
  expect(outOfDate()).toEqual([]);
});
