const MAX_BYTES = 16 * 1024;

/** A request that is not served. The message is for the page. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The body of a request: an object, which is empty if there is none. */
export async function readJson(request) {
  if (request.method === "GET") return {};
  // A form of another site cannot send this type.
  if (request.headers["content-type"] !== "application/json") throw new Refusal(415, "send JSON");
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > MAX_BYTES) throw new Refusal(413, `a body may have ${MAX_BYTES} bytes`);
    chunks.push(chunk);
  }
  let body;
  try {
    body = JSON.parse(Buffer.concat(chunks).toString());
  } catch {
    throw new Refusal(400, "not JSON");
  }
  if (typeof body !== "object" || body === null || Array.isArray(body)) throw new Refusal(400, "not a JSON object");
  return body;
}

export function sendJson(response, status, body) {
  response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
  response.end(JSON.stringify(body));
}
