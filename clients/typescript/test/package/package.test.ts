import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "vite";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Stack } from "../support/stack.js";

const PACKAGE = fileURLToPath(new URL("../..", import.meta.url));
const require = createRequire(import.meta.url);

/** An application that has installed the package as its users do. */
let app: string;

beforeAll(() => {
  app = mkdtempSync(join(tmpdir(), "belfry-app-"));
  const [packed] = JSON.parse(run("npm", ["pack", "--json", "--pack-destination", app], PACKAGE));
  writeFileSync(join(app, "package.json"), '{"name":"app","private":true,"type":"module"}');
  run("npm", ["install", "--offline", "--no-audit", "--no-fund", join(app, packed.filename)], app);
});

afterAll(() => rmSync(app, { recursive: true }));

function run(command: string, options: string[], cwd: string): string {
  return execFileSync(command, options, { cwd, encoding: "utf8" });
}

it("the tarball brings no other package along", () => {
  const installed = readdirSync(join(app, "node_modules")).filter((name) => !name.startsWith("."));
  expect(installed).toEqual(["@belfry"]);
  expect(readdirSync(join(app, "node_modules/@belfry"))).toEqual(["client"]);
});

it("it works in plain Node, against a real stack", async ({ onTestFinished }) => {
  const stack = await Stack.start();
  onTestFinished(() => stack.stop());
  const { ws, url, token } = {
    ws: require.resolve("ws"),
    url: stack.websocket.href,
    token: await stack.token("alice"),
  };
  writeFileSync(
    join(app, "node.mjs"),
    `import { Belfry } from "@belfry/client";
     import { http } from "@belfry/client/http";
     import { locks } from "@belfry/client/locks";
     import { presence } from "@belfry/client/presence";
     import ws from ${JSON.stringify(ws)};
     const WebSocket = globalThis.WebSocket ?? ws;
     const fallback = http({ reader: "https://reader.example.com" });
     const belfry = new Belfry({ url: ${JSON.stringify(url)}, token: () => ${JSON.stringify(token)}, WebSocket, locks, presence, fallback });
     const room = belfry.channel("room:package", { presence: { name: "Alice" } });
     const next = room[Symbol.asyncIterator]().next();
     await room.subscribe();
     await room.publish("chat.line", { text: "hello" }, { echo: true });
     console.log((await next).value.data.text);
     console.log(room.presence.members[0].info.name);
     console.log((await room.lock("price")).isHeld);
     belfry.close();`,
  );
  expect(run("node", ["node.mjs"], app)).toBe("hello\nAlice\ntrue\n");
});

/** Compiles a file of the application, without the types of the DOM and of Node. */
function compile(name: string, text: string): string {
  writeFileSync(join(app, name), text);
  const compilerOptions = {
    target: "ES2022",
    lib: ["ES2022"],
    types: [],
    module: "NodeNext",
    strict: true,
    exactOptionalPropertyTypes: true,
    noEmit: true,
  };
  writeFileSync(join(app, "tsconfig.json"), JSON.stringify({ compilerOptions, files: [name] }));
  const tsc = join(require.resolve("typescript/package.json"), "../bin/tsc");
  const { stdout, stderr } = spawnSync("node", [tsc, "--project", app], { cwd: app, encoding: "utf8" });
  return stdout + stderr;
}

it("its types take kinds of the application's own", () => {
  const text = `
    import { Belfry, BelfryError, type Message } from "@belfry/client";
    declare module "@belfry/client" {
      interface Kinds { "chat.line": { text: string } }
    }
    const belfry = new Belfry({ url: "wss://example.com/dev", token: async ({ reason }) => reason });
    belfry.on("upload.completed", ({ data }) => data.file.length);
    belfry.on("status", (status) => (status.state === "connected" ? status.userId : status.error?.code));
    const room = belfry.channel("room:7");
    room.on("chat.line", ({ data, from }) => data.text + from);
    // @ts-expect-error: the data of a kind are checked
    void room.publish("chat.line", { txt: "hi" });
    // @ts-expect-error: a kind that needs data gets some
    void room.publish("chat.line");
    void room.publish("anything.else", { x: 1 });
    void room.publish("anything.else");
    room.on("anything.else", ({ data }: Message<"anything.else">) => { const unknown: unknown = data; return unknown; });
    export async function read(): Promise<string | undefined> {
      try {
        for await (const message of room) if (message.position) return message.position.epoch;
      } catch (error) {
        if (error instanceof BelfryError && error.code === "FORBIDDEN") return error.advice;
      }
      return undefined;
    }`;
  expect(compile("types.ts", text)).toBe("");
});

/** The examples in the README that are written in a language. */
function examples(language: string): string[] {
  const readme = readFileSync(join(PACKAGE, "README.md"), "utf8");
  return [...readme.matchAll(/```(\w+)\n(.*?)```/gs)]
    .filter(([, is]) => is === language)
    .map(([, , text]) => text ?? "");
}

it("the README's examples compile", () => {
  const around = `
    import type { Belfry as Client, Channel, TokenSource } from "@belfry/client";
    declare const url: string;
    declare const token: TokenSource;
    declare const belfry: Client;
    declare const room: Channel;
    declare const console: { log(...values: unknown[]): void };
    declare const process: { env: Record<string, string | undefined> };`;
  writeFileSync(
    join(app, "ambient.d.ts"),
    `declare module "aws-amplify/auth" {
       export function fetchAuthSession(o: { forceRefresh: boolean }): Promise<{ tokens?: { accessToken: object } }>;
     }
     declare module "ws" {
       const WebSocket: import("@belfry/client").WebSocketConstructor;
       export default WebSocket;
     }`,
  );
  const all = examples("ts");
  expect(all.length).toBe(9);
  for (const text of all) {
    // An example may declare the client itself, in a scope of its own.
    const [imports, body] = [/^import .*$/gm, /^declare module .*?^}/gms].reduce<[string[], string]>(
      ([top, rest], pattern) => [[...top, ...(rest.match(pattern) ?? [])], rest.replace(pattern, "")],
      [[], text],
    );
    const reference = '/// <reference path="./ambient.d.ts" />\n';
    const code = `${reference}${around}\n${imports.join("\n")}\nexport async function example() {${body}}`;
    expect(compile("example.ts", code), text).toBe("");
  }
});

it("the README's page is bundled by Vite", async () => {
  const [page] = examples("html");
  writeFileSync(join(app, "index.html"), page ?? "");
  await build({ root: app, logLevel: "silent", build: { outDir: "built" } });
  const [asset] = readdirSync(join(app, "built/assets"));
  expect(readFileSync(join(app, "built/assets", asset ?? ""), "utf8")).toContain("belfry.v1");
});

it("the minified file works without a bundler", async () => {
  cpSync(join(app, "node_modules/@belfry/client/dist/belfry.min.js"), join(app, "belfry.mjs"));
  writeFileSync(join(app, "page.mjs"), 'import { Belfry } from "./belfry.mjs"; console.log(typeof Belfry);');
  expect(run("node", ["page.mjs"], app)).toBe("function\n");
});
