// @vitest-environment node
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
const css = read("src/styles.css");
const CALM = /@media \(prefers-reduced-motion: no-preference\) \{.*?\n\}/s;

it("nothing moves for users who want no motion", () => {
  expect(css).toMatch(CALM);
  expect(css).toMatch(/animation:/);
  expect(css.replace(CALM, "")).not.toMatch(/(animation|transition)[\w-]*:/);
});

it("every variable that is used is declared, and the README lists it", () => {
  const names = (pattern: RegExp, text: string) => new Set([...text.matchAll(pattern)].map(([, name]) => name));
  const declared = names(/(--belfry-[\w-]+):/g, css);
  expect(names(/var\((--belfry-[\w-]+)\)/g, css)).toEqual(declared);
  expect(names(/`(--belfry-[\w-]+)`/g, read("README.md"))).toEqual(declared);
});
