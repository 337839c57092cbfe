import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // The integration tests wait for real handshakes, invocations and closes.
    testTimeout: 40_000,
    hookTimeout: 40_000,
    reporters: ["dot"],
  },
});
