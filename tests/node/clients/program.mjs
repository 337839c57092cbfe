import { createInterface } from "node:readline";

const CHECK_MS = 50;

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until something is true, at most so long. */
export async function until(isTrue, ms) {
  for (const end = performance.now() + ms; performance.now() < end; await sleep(CHECK_MS)) {
    if (isTrue()) return true;
  }
  return isTrue();
}

/** Takes commands as lines of JSON, and answers each with one line, until the input ends. */
export async function serve(commands) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { command, ...parameters } = JSON.parse(line);
    console.log(JSON.stringify(await commands[command](parameters)));
  }
}
