// Writes dist: modules with types, and the stylesheet.
import { execFileSync } from "node:child_process";
import { copyFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const at = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));

export const index = at("src/index.ts");

/** The minified stylesheet. */
export async function stylesheet() {
  const { outputFiles } = await build({ entryPoints: [at("src/styles.css")], minify: true, write: false });
  return outputFiles[0].contents;
}

export async function buildPackage() {
  rmSync(at("dist"), { recursive: true, force: true });
  execFileSync("npx", ["tsc", "--project", at("tsconfig.build.json")], { cwd: at("."), stdio: "inherit" });
  copyFileSync(at("../../LICENSE"), at("LICENSE"));
  writeFileSync(at("dist/styles.css"), await stylesheet());
  // TypeScript asks for types even where a file is only imported for its effect.
  writeFileSync(at("dist/styles.css.d.ts"), "export {};\n");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildPackage();
