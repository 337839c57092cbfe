// @vitest-environment node
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "vite";
import { afterAll, beforeAll, expect, it } from "vitest";

const PACKAGE = fileURLToPath(new URL("../..", import.meta.url));
const CLIENT = fileURLToPath(new URL("../../../typescript", import.meta.url));
const require = createRequire(import.meta.url);

/** An application that has installed the packages as their users do. */
let app: string;

beforeAll(() => {
  app = mkdtempSync(join(tmpdir(), "belfry-react-app-"));
  const tarballs = [PACKAGE, CLIENT].map((folder) => {
    const [packed] = JSON.parse(run("npm", ["pack", "--json", "--pack-destination", app], folder));
    return join(app, packed.filename);
  });
  writeFileSync(join(app, "package.json"), '{"name":"app","private":true,"type":"module"}');
  // Without the peers: the registry may be out of reach.
  run("npm", ["install", "--offline", "--no-audit", "--no-fund", "--legacy-peer-deps", ...tarballs], app);
});

afterAll(() => rmSync(app, { recursive: true }));

function run(command: string, options: string[], cwd: string): string {
  return execFileSync(command, options, { cwd, encoding: "utf8" });
}

/** Adds what this project has installed. */
function add(...names: string[]): void {
  for (const name of names) {
    const target = join(app, "node_modules", name);
    mkdirSync(dirname(target), { recursive: true });
    cpSync(folderOf(name), target, { recursive: true });
  }
}

function folderOf(name: string): string {
  // The scheduler belongs to React DOM.
  const from = name === "scheduler" ? createRequire(require.resolve("react-dom/package.json")) : require;
  return dirname(from.resolve(`${name}/package.json`));
}

it("the tarballs bring no other package along", () => {
  const installed = readdirSync(join(app, "node_modules")).filter((name) => !name.startsWith("."));
  expect(installed).toEqual(["@belfry"]);
  expect(readdirSync(join(app, "node_modules/@belfry")).sort()).toEqual(["client", "react"]);
});

it("plain Node renders a page, and frameworks see that the package belongs to the browser", () => {
  add("react", "react-dom", "scheduler");
  writeFileSync(
    join(app, "server.mjs"),
    `import { ConnectionStatusIndicator, NotificationCenter, useChannel, WebSocketProvider } from "@belfry/react";
     import { createElement } from "react";
     import { renderToString } from "react-dom/server";
     const Room = () => createElement("p", null, useChannel("room:7").status);
     const inside = [ConnectionStatusIndicator, NotificationCenter, Room].map((it, key) => createElement(it, { key }));
     const token = () => { throw new Error("a server asks for no token"); };
     console.log(renderToString(createElement(WebSocketProvider, { url: "wss://example.com/dev", token }, inside)));`,
  );
  const html = run("node", ["server.mjs"], app);
  expect(html).toContain("<span>Connecting</span>");
  expect(html).toContain("<p>subscribing</p>");
  const entry = readFileSync(join(app, "node_modules/@belfry/react/dist/index.js"), "utf8");
  expect(entry.startsWith('"use client";')).toBe(true);
});

/** The examples in the README that are written in a language. */
function examples(language: string): string[] {
  const readme = readFileSync(join(PACKAGE, "README.md"), "utf8");
  return [...readme.matchAll(/```(\w+)\n(.*?)```/gs)]
    .filter(([, is]) => is === language)
    .map(([, , text]) => text ?? "");
}

it("the README's page is bundled by Vite, with its styles", async () => {
  add("react", "react-dom", "scheduler");
  const [page] = examples("tsx");
  writeFileSync(join(app, "index.html"), '<div id="root"></div><script type="module" src="/main.tsx"></script>');
  writeFileSync(join(app, "main.tsx"), page ?? "");
  // Vite warns of directives, as of any other problem. An application with React's plugin is not told of them.
  const warnings: string[] = [];
  await build({
    root: app,
    logLevel: "silent",
    esbuild: { jsx: "automatic", jsxDev: false },
    build: {
      outDir: "built",
      rollupOptions: {
        onwarn: ({ code, message }) => void (code !== "MODULE_LEVEL_DIRECTIVE" && warnings.push(message)),
      },
    },
  });
  expect(warnings).toEqual([]);
  const assets = readdirSync(join(app, "built/assets"));
  const content = (extension: string) =>
    readFileSync(join(app, "built/assets", assets.find((name) => name.endsWith(extension)) ?? ""), "utf8");
  expect(content(".js")).toContain("belfry.v1");
  expect(content(".css")).toContain("--belfry-background");
});

/** Compiles files of the application, with the types of one version of React. */
function compile(files: Record<string, string>): string {
  for (const [name, text] of Object.entries(files)) writeFileSync(join(app, name), text);
  const compilerOptions = {
    target: "ES2022",
    lib: ["ES2022", "DOM"],
    types: [],
    module: "NodeNext",
    jsx: "react-jsx",
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedSideEffectImports: true,
    noEmit: true,
  };
  writeFileSync(join(app, "tsconfig.json"), JSON.stringify({ compilerOptions, files: Object.keys(files) }));
  const tsc = join(require.resolve("typescript/package.json"), "../bin/tsc");
  const { stdout, stderr } = spawnSync("node", [tsc, "--project", app], { cwd: app, encoding: "utf8" });
  return stdout + stderr;
}

it("its types, and the README's examples, compile", () => {
  add("@types/react", "@types/react-dom", "csstype");
  const types = `
    import { useCall, useChannel, useLock, useNotification, WebSocketProvider } from "@belfry/react";
    import { Belfry } from "@belfry/client";
    declare module "@belfry/client" {
      interface Kinds { "chat.note": { text: string } }
    }
    export function Page() {
      useNotification("upload.completed", ({ data }) => data.file.length);
      const { publish, messages } = useChannel("room:7");
      void publish("chat.note", { text: "hi" });
      // @ts-expect-error: the data of a kind are checked
      void publish("chat.note", { txt: "hi" });
      const { state, lock } = useLock("room:7", "price");
      // @ts-expect-error: there is no such state
      if (state === "locked") return null;
      const call = useCall();
      return <button onClick={() => call("anything")}>{messages.length}{String(lock)}</button>;
    }
    const client = new Belfry({ url: "wss://example.com", token: () => "" });
    export const given = <WebSocketProvider client={client}><Page /></WebSocketProvider>;
    // @ts-expect-error: a client has its own URL
    export const both = <WebSocketProvider client={client} url="wss://example.com" token={() => ""} />;
    // @ts-expect-error: a client needs a token
    export const none = <WebSocketProvider url="wss://example.com" />;`;
  const ambient = `
    declare module "aws-amplify/auth" {
      export function fetchAuthSession(o?: { forceRefresh: boolean }): Promise<{ tokens?: { accessToken: object } }>;
    }`;
  const files = Object.fromEntries(examples("tsx").map((text, index) => [`example${index}.tsx`, text]));
  expect(Object.keys(files).length).toBeGreaterThan(5);
  expect(compile({ "ambient.d.ts": ambient, "types.tsx": types, ...files })).toBe("");
});
