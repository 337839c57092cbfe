// Writes dist: modules with types, and the stylesheet.
import { execFileSync } from "node:child_process";
import { copyFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const at = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));

export const index = at("src/index.ts");
export const stylesheet = at("src/styles.css");

/** The options with which sizes are measured, too. */
export const bundle = {
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
  jsx: "automatic",
  external: ["react", "react/*", "@belfry/client", "@belfry/client/*"],
};

export async function buildPackage() {
  rmSync(at("dist"), { recursive: true, force: true });
  execFileSync("npx", ["tsc", "--project", at("tsconfig.build.json")], { cwd: at("."), stdio: "inherit" });
  copyFileSync(at("../../LICENSE"), at("LICENSE"));
  await build({ entryPoints: [stylesheet], minify: true, outfile: at("dist/styles.css") });
  // TypeScript asks for types even where a file is only imported for its effect.
  writeFileSync(at("dist/styles.css.d.ts"), "export {};\n");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildPackage();
