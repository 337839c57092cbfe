import { fileURLToPath } from "node:url";

/** The path of a file in this repository. */
export function inRepository(path) {
  return fileURLToPath(new URL(`../../../${path}`, import.meta.url));
}
