import { readFile } from "node:fs/promises";
import { extname } from "node:path";
import { Refusal } from "./http.mjs";
import { inExample } from "./paths.mjs";

const TYPES = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".svg": "image/svg+xml",
};

/** The built page. */
export class Pages {
  #policy;

  constructor({ urls }) {
    const { origin } = new URL(urls.websocket.replace(/^ws/, "http"));
    const sources = ["'self'", origin.replace(/^http/, "ws"), urls.reader];
    this.#policy = `default-src 'self'; connect-src ${sources.join(" ")}; frame-ancestors 'none'; base-uri 'none'`;
  }

  async handle({ method }, response, pathname) {
    if (method !== "GET") throw new Refusal(405, "only GET");
    const name = pathname === "/" ? "/index.html" : pathname;
    // The build makes flat names: nothing else can be asked for.
    const type = /^\/(assets\/)?[\w-]+(\.[\w-]+)*$/.test(name) && TYPES[extname(name)];
    const body = type && (await readFile(inExample(`dist${name}`)).catch(() => undefined));
    if (!body) throw new Refusal(404, "no such page");
    response.writeHead(200, {
      "content-type": type,
      "content-security-policy": this.#policy,
      "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer",
      "cache-control": name.startsWith("/assets/") ? "max-age=31536000, immutable" : "no-cache",
    });
    response.end(body);
  }
}
