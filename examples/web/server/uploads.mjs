import { once } from "node:events";
import { createServer } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

/** The handler of examples/typescript, and a bucket that keeps nothing. */
export class Uploads {
  #handler;

  constructor(handler) {
    this.#handler = handler;
  }

  static async start({ urls }, signal) {
    Object.assign(process.env, {
      AWS_REGION: "us-east-1",
      AWS_ACCESS_KEY_ID: "x",
      AWS_SECRET_ACCESS_KEY: "x",
      AWS_ENDPOINT_URL_LAMBDA: urls.lambda,
      AWS_ENDPOINT_URL_S3: await startBucket(signal),
      AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: "true",
      TOKEN_ISSUER: urls.issuer,
      COGNITO_CLIENT_IDS: "local",
      UPLOADS_BUCKET: "uploads",
      BROADCASTER_FUNCTION: "Broadcaster",
    });
    return new Uploads(await import("../../typescript/dist/handler.js"));
  }

  /** `POST ?file=x.png` with the file as the body. */
  async handle(incoming, outgoing) {
    const { method, url, headers } = incoming;
    if (method !== "POST") {
      outgoing.writeHead(405, { allow: "POST" }).end();
      return;
    }
    const request = new Request(new URL(url, "http://127.0.0.1"), {
      method,
      headers: { authorization: headers.authorization ?? "" },
      body: Readable.toWeb(incoming),
      duplex: "half",
    });
    const response = await this.#handler.POST(request);
    outgoing.writeHead(response.status, Object.fromEntries(response.headers));
    await pipeline(Readable.from(response.body ?? []), outgoing);
  }
}

/** Takes every object as S3 does, and drops it. */
async function startBucket(signal) {
  const server = createServer((request, response) => {
    request.resume().on("end", () => response.writeHead(200, { etag: '"demo"' }).end());
  });
  signal.addEventListener("abort", () => {
    server.close();
    server.closeAllConnections();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return `http://127.0.0.1:${server.address().port}`;
}
