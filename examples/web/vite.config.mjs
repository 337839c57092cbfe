import { defineConfig } from "vite";

export default defineConfig({
  esbuild: { jsx: "automatic" },
  // The packages are linked, and beside them is a React for their own tests.
  resolve: { dedupe: ["react", "react-dom", "@belfry/client"] },
});
