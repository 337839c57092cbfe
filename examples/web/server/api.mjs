import { timingSafeEqual } from "node:crypto";
import { Board } from "./board.mjs";
import { Breaker } from "./breaker.mjs";
import { Broadcaster } from "./broadcaster.mjs";
import { Refusal, readJson, sendJson } from "./http.mjs";
import { Jobs } from "./jobs.mjs";
import { Pages } from "./pages.mjs";
import { quoteCalls } from "./quotes.mjs";
import { Sessions } from "./sessions.mjs";
import { Transcription } from "./transcription.mjs";
import { Uploads } from "./uploads.mjs";

/** The demo server's HTTP API. */
export class Api {
  #origins;
  #key;
  #pages;
  #uploads;
  #routes;

  constructor({ origins, key, pages, uploads, routes }) {
    this.#origins = origins;
    this.#key = key;
    this.#pages = pages;
    this.#uploads = uploads;
    this.#routes = routes;
  }

  static async create({ stack, origins, key, signal }) {
    const broadcaster = new Broadcaster(stack, signal);
    const board = new Board(broadcaster, signal);
    const transcription = new Transcription(broadcaster, signal);
    const jobs = new Jobs(broadcaster, signal);
    const sessions = new Sessions(stack, signal);
    const breaker = new Breaker(stack);
    const uploads = await Uploads.start(stack, signal);
    const calls = await quoteCalls(stack);
    void board.play();
    return new Api({
      origins,
      key,
      uploads,
      pages: new Pages(stack),
      routes: {
        "POST /internal/calls": calls,
        "POST /api/session": (body) => sessions.begin(body),
        "POST /api/token": (body) => sessions.token(body),
        "POST /api/sign-out": (body) => sessions.end(body),
        "GET /api/board": () => board.snapshot(),
        "POST /api/board/threats": () => board.raise(),
        "POST /api/board/alerts": (body) => board.alert(body),
        "GET /api/transcription": () => transcription.snapshot(),
        "POST /api/transcription": () => transcription.start(),
        "POST /api/jobs": (body) => jobs.start(body),
        "GET /api/faults": () => breaker.list(),
        "POST /api/faults": (body) => breaker.begin(body),
        "POST /api/faults/end": (body) => breaker.end(body),
        "POST /api/drop": (body) => breaker.drop(body),
      },
    });
  }

  async handle(request, response) {
    try {
      const { pathname } = new URL(request.url, this.#origins[0]);
      this.#check(request, pathname);
      if (pathname === "/api/uploads") {
        await this.#uploads.handle(request, response);
        return;
      }
      const route = this.#routes[`${request.method} ${pathname}`];
      if (route) sendJson(response, 200, (await route(await readJson(request))) ?? {});
      else await this.#pages.handle(request, response, pathname);
    } catch (error) {
      const status = error instanceof Refusal ? error.status : 500;
      if (status === 500) console.error(`demo: ${request.method} ${request.url}: ${error.message}`);
      if (response.headersSent) response.destroy();
      else sendJson(response, status, { error: status === 500 ? "the demo's server failed" : error.message });
    }
  }

  /** Each page in the browser reaches this port, and a foreign name may resolve to it: only the demo's own may ask. */
  #check({ headers }, pathname) {
    if (!this.#origins.some((origin) => new URL(origin).host === headers.host)) throw new Refusal(403, "another host");
    if (pathname.startsWith("/internal/")) {
      if (!isSame(headers.authorization ?? "", `Bearer ${this.#key}`)) throw new Refusal(401, "for functions only");
      return;
    }
    if (pathname.startsWith("/api/") && !["same-origin", undefined].includes(headers["sec-fetch-site"])) {
      throw new Refusal(403, "another site");
    }
    if (headers.origin && !this.#origins.includes(headers.origin)) throw new Refusal(403, "another origin");
  }
}

function isSame(left, right) {
  const [a, b] = [Buffer.from(left), Buffer.from(right)];
  return a.length === b.length && timingSafeEqual(a, b);
}
