// Serves the handler locally, so that you can try it with curl. A host such as
// Vercel brings its own server.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { POST } from "./handler.ts";

const server = createServer(async (incoming, outgoing) => {
  try {
    if (incoming.method !== "POST") {
      outgoing.writeHead(405, { allow: "POST" }).end();
      return;
    }
    const headers = new Headers();
    for (const [name, values] of Object.entries(incoming.headersDistinct)) {
      for (const value of values ?? []) headers.append(name, value);
    }
    const url = new URL(incoming.url ?? "/", "http://127.0.0.1");
    const body = Readable.toWeb(incoming);
    const response = await POST(new Request(url, { method: "POST", headers, body, duplex: "half" }));
    outgoing.writeHead(response.status, Object.fromEntries(response.headers));
    await pipeline(Readable.from(response.body ?? []), outgoing);
  } catch (error) {
    console.error(error);
    outgoing.destroy();
  }
});

server.listen(Number(process.env.PORT ?? 0), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
