import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { expect, it } from "vitest";
import { bundle, everything, index } from "../../tools/build.mjs";

it.each([
  ["the client without the parts that a page passes in", index, 9 * 1024],
  ["belfry.min.js, which has presence, locks and HTTP, too", everything, 13 * 1024],
])("%s, has few bytes, minified and gzipped", async (_, entry, maxBytes) => {
  const { outputFiles } = await build({ ...(bundle as object), entryPoints: [String(entry)], write: false });
  const size = gzipSync(outputFiles?.[0]?.contents ?? "", { level: 9 }).length;
  expect(size).toBeGreaterThan(1_000);
  expect(size).toBeLessThanOrEqual(maxBytes);
});
