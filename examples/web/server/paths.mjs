import { fileURLToPath } from "node:url";

/** The path of a file of this example. */
export function inExample(path) {
  return fileURLToPath(new URL(`../${path}`, import.meta.url));
}

/** The path of a file of the repository. */
export function inRepository(path) {
  return inExample(`../../${path}`);
}
