// Writes dist: modules with types for bundlers and Node, and one minified file for pages without a bundler.
import { execFileSync } from "node:child_process";
import { copyFileSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const at = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));

/** The client alone. */
export const index = at("src/index.ts");
/** The client with all of its parts: `belfry.min.js`. */
export const everything = at("src/everything.ts");

/** The options with which the size of the client is measured, too. */
export const bundle = {
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
};

export async function buildPackage() {
  rmSync(at("dist"), { recursive: true, force: true });
  execFileSync("npx", ["tsc", "--project", at("tsconfig.build.json")], { cwd: at("."), stdio: "inherit" });
  copyFileSync(at("../../LICENSE"), at("LICENSE"));
  await build({ ...bundle, entryPoints: [everything], sourcemap: true, outfile: at("dist/belfry.min.js") });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildPackage();
