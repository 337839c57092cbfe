// Starts the local stack, plays the application behind the page, and serves the page.
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { Api } from "./api.mjs";
import { inExample, inRepository } from "./paths.mjs";
import { Stack } from "./stack.mjs";

const { values: options } = parseArgs({
  options: {
    port: { type: "string", default: "5180" },
    "stack-port": { type: "string", default: "3001" },
    binaries: { type: "string", default: inRepository("target/debug") },
    json: { type: "boolean", default: false },
  },
});

const stopping = new AbortController();
process.once("SIGINT", () => stopping.abort());
process.once("SIGTERM", () => stopping.abort());
// The stack has to know the page's origin before it starts.
let handle = (_, response) => response.writeHead(503).end();
const server = createServer((request, response) => handle(request, response));

try {
  await run();
} catch (error) {
  if (!stopping.signal.aborted) {
    console.error(`demo: ${error.message}`);
    process.exitCode = 1;
  }
} finally {
  stopping.abort();
  server.close();
  server.closeAllConnections();
}

async function run() {
  server.listen(Number(options.port), "127.0.0.1");
  await once(server, "listening").catch((error) => {
    throw error.code === "EADDRINUSE" ? new Error(`port ${options.port} is in use: choose another with --port`) : error;
  });
  const { port } = server.address();
  // As browsers write them, without port 80.
  const origins = ["127.0.0.1", "localhost"].map((host) => new URL(`http://${host}:${port}`).origin);

  const key = randomUUID();
  const stack = await Stack.start(
    options.binaries,
    [
      ["--port", options["stack-port"]],
      // Nobody calls these two by hand.
      ["--dynamodb-port", "0"],
      ["--url-port", "0"],
      ["--template", inRepository("template.yaml")],
      ["--functions", options.binaries],
      ["--channels", inExample("channels.json")],
      ["--parameter", `AllowedOrigins=${origins.join(",")}`],
      ["--parameter", "BroadcastAllIntervalSeconds=0"],
      ["--parameter", "ReaderConcurrency=50"],
      // A stream keeps its process busy for as long as it runs.
      ["--environments", "50"],
      ["--retry-delay", "1s,2s"],
      ["--function", `CallFunction=${inExample("server/call.mjs")}`],
      ["--function-env", `CALLS_URL=${origins[0]}/internal/calls`],
      ["--function-env", `CALLS_KEY=${key}`],
    ].flat(),
    stopping.signal,
  );
  stack.ended.then(() => {
    if (stopping.signal.aborted) return;
    console.error("demo: the local stack has ended");
    process.exitCode = 1;
    stopping.abort();
  });

  try {
    const api = await Api.create({ stack, origins, key, signal: stopping.signal });
    handle = (request, response) => api.handle(request, response);
    announce(origins[0], stack);
    if (!stopping.signal.aborted) await once(stopping.signal, "abort");
  } finally {
    await stack.stop();
  }
}

function announce(address, { urls }) {
  const text = `
The demo is running. Ctrl-C stops it; nothing is kept.

  ${address}

Open it in two windows: each tab is a user of its own.
`;
  console.log(options.json ? JSON.stringify({ ...urls, address }) : text);
}
