import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { expect, it } from "vitest";
import { bundle } from "../../tools/build.mjs";

/** The limit for the whole client, minified and gzipped. */
const MAX_BYTES = 9 * 1024;

it(`the client has at most ${MAX_BYTES} bytes, minified and gzipped`, async () => {
  const { outputFiles } = await build({ ...(bundle as object), write: false });
  const size = gzipSync(outputFiles?.[0]?.contents ?? "", { level: 9 }).length;
  expect(size).toBeGreaterThan(1_000);
  expect(size).toBeLessThanOrEqual(MAX_BYTES);
});
