import { expect, it } from "vitest";
import { outOfDate } from "../../tools/generate.mjs";

it("the generated types agree with schemas/", () => {
  expect(outOfDate()).toEqual([]);
});
