import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // The integration tests wait for real handshakes, invocations and closes.
    testTimeout: 120_000,
    hookTimeout: 60_000,
    reporters: ["dot"],
    // Each file has a stack of its own, with all its processes.
    maxWorkers: 1,
  },
});
