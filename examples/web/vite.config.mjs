import { defineConfig } from "vite";

export default defineConfig({
  esbuild: { jsx: "automatic" },
  build: {
    rollupOptions: {
      onwarn(warning, warn) {
        // `"use client"` of @belfry/react is for frameworks that render on servers.
        if (warning.code !== "MODULE_LEVEL_DIRECTIVE") warn(warning);
      },
    },
  },
  // The packages are linked, and beside them is a React for their own tests.
  resolve: { dedupe: ["react", "react-dom", "@belfry/client"] },
});
