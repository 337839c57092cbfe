import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const client = { find: /^@belfry\/client(?:\/(.*))?$/, replacement: at("../typescript/src/$1") };
const react18 = { find: /^(react|react-dom)(\/.*)?$/, replacement: at("../react-18/node_modules/$1$2") };

export default defineConfig({
  test: {
    environment: "./test/support/page.ts",
    // The integration tests wait for real handshakes, invocations and closes.
    testTimeout: 120_000,
    hookTimeout: 60_000,
    reporters: ["dot"],
    // Each integration test file has a stack of its own, with all its processes.
    maxWorkers: 1,
    projects: [
      { extends: true, resolve: { alias: [client] }, test: { name: "react-19" } },
      { extends: true, resolve: { alias: [client, react18] }, test: { name: "react-18" } },
    ],
  },
});
