// Prints the size of each client as a page gets it: bundled, minified and gzipped.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const own = fileURLToPath(new URL("../typescript/src/index.ts", import.meta.url));
const clients = {
  "@belfry/client": `export { Belfry } from ${JSON.stringify(own)};`,
  "socket.io-client": 'export { io } from "socket.io-client";',
  centrifuge: 'export { Centrifuge } from "centrifuge";',
  "pusher-js": 'import Pusher from "pusher-js"; export { Pusher };',
};

const { dependencies } = JSON.parse(readFileSync(new URL("package.json", import.meta.url), "utf8"));
for (const [name, contents] of Object.entries(clients)) {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: fileURLToPath(new URL(".", import.meta.url)) },
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    target: "es2022",
    legalComments: "none",
  });
  const { length } = gzipSync(outputFiles[0].contents, { level: 9 });
  console.log(`${name} ${dependencies[name] ?? ""}: ${(length / 1024).toFixed(1)} KB`);
}
