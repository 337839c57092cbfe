import { readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";

const ajv = new Ajv2020({ strict: false, validateFormats: false });

export function repositoryFile(path: string): string {
  return readFileSync(new URL(`../../../../${path}`, import.meta.url), "utf8");
}

const isClientFrame = ajv.compile(JSON.parse(repositoryFile("schemas/client-frame.json")));
const isServerFrame = ajv.compile(JSON.parse(repositoryFile("schemas/server-frame.json")));

/** Fails unless the schema allows a client to send this. */
export function assertClientFrame(frame: unknown): void {
  if (!isClientFrame(frame)) {
    throw new Error(`not a client's frame: ${JSON.stringify(frame)}\n${ajv.errorsText(isClientFrame.errors)}`);
  }
}

/** Fails unless the schema allows a server to send this. */
export function assertServerFrame(frame: unknown): void {
  if (!isServerFrame(frame)) {
    throw new Error(`not a server's frame: ${JSON.stringify(frame)}\n${ajv.errorsText(isServerFrame.errors)}`);
  }
}
