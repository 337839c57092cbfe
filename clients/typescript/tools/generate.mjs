// Writes src/generated from the repository's schemas.
// With --check, it changes nothing and fails if a file is out of date.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import { adviceModule } from "./advice.mjs";
import { framesModule } from "./frames.mjs";

const repository = new URL("../../../", import.meta.url);
const folder = new URL("../src/generated/", import.meta.url);

const read = (path) => readFileSync(new URL(path, repository), "utf8");

/** The generated files: name and text. */
export function generated() {
  const server = JSON.parse(read("schemas/server-frame.json"));
  const client = JSON.parse(read("schemas/client-frame.json"));
  return {
    "frames.ts": framesModule(server, client),
    "advice.ts": adviceModule(server),
  };
}

/** The names of generated files that differ from what is on disk. */
export function outOfDate() {
  return Object.entries(generated())
    .filter(([name, text]) => {
      try {
        return readFileSync(new URL(name, folder), "utf8") !== text;
      } catch {
        return true;
      }
    })
    .map(([name]) => name);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  if (process.argv.includes("--check")) {
    const stale = outOfDate();
    for (const name of stale) console.error(`src/generated/${name} is out of date: run \`npm run generate\`.`);
    process.exit(stale.length === 0 ? 0 : 1);
  }
  mkdirSync(fileURLToPath(folder), { recursive: true });
  for (const [name, text] of Object.entries(generated())) writeFileSync(new URL(name, folder), text);
}
