// @vitest-environment node
import { gzipSync } from "node:zlib";
import { build, type Rollup } from "vite";
import { expect, it } from "vitest";
import { index, stylesheet } from "../../tools/build.mjs";

const gzipped = (content: string | Uint8Array) => gzipSync(content, { level: 9 }).length;

it("the hooks and components have few bytes, minified and gzipped, without React and the client", async () => {
  const [bundle] = (await build({
    configFile: false,
    logLevel: "silent",
    esbuild: { jsx: "automatic", jsxDev: false },
    build: {
      write: false,
      target: "es2022",
      rollupOptions: {
        input: index,
        preserveEntrySignatures: "strict",
        external: /^(react|@belfry\/client)(\/|$)/,
      },
    },
  }).then((built) => [built].flat())) as [Rollup.RollupOutput];
  const [chunk, ...others] = bundle.output;
  expect(others).toEqual([]);
  expect(gzipped(chunk.code)).toBeGreaterThan(1_000);
  expect(gzipped(chunk.code)).toBeLessThanOrEqual(6 * 1024);
});

it("the stylesheet has few bytes, too", async () => {
  expect(gzipped(await stylesheet())).toBeLessThanOrEqual(1.5 * 1024);
});
