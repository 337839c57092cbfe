import type { Environment } from "./environment.js";
import type { FallbackPart } from "./fallback-part.js";
import { HttpLink, type HttpWorld } from "./http-link.js";
import type { Link, LinkEvents, LinkRequest, Transport } from "./transport.js";

/** How many handshakes in a row fail before the client tries HTTP. */
const MAX_FAILURES = 3;
/** How often the client finds out whether WebSockets work again. */
const PROBE_MS = 60_000;

/** The standard function `fetch`, or another implementation of it. */
export type FetchLike = (url: string, options?: never) => Promise<unknown>;

/** How the client reaches the function `Reader`. */
export interface HttpOptions {
  /** The stack's output `ReaderUrl`. */
  reader: string | { readonly href: string };
  /** An implementation of `fetch`: the runtime's by default. */
  fetch?: FetchLike;
}

/**
 * HTTP instead of WebSockets where a network blocks those, for the option `fallback` of a client:
 *
 * ```ts
 * import { http } from "@belfry/client/http";
 *
 * const belfry = new Belfry({ url, token, fallback: http({ reader }) });
 * ```
 */
export function http({ reader, fetch: given }: HttpOptions): FallbackPart {
  const fetch = (given ?? globalThis.fetch) as typeof globalThis.fetch;
  const base = new URL(String(reader)).href.replace(/\/$/, "");
  return (transport, environment) =>
    new Fallback(transport, { environment, reader: base, fetch: (...request) => fetch(...request) });
}

class Fallback implements Transport {
  readonly #transport: Transport;
  readonly #world: HttpWorld;
  readonly #environment: Environment;
  /** Handshakes in a row that failed. */
  #failures = 0;

  constructor(transport: Transport, world: HttpWorld) {
    this.#transport = transport;
    this.#world = world;
    this.#environment = world.environment;
  }

  open(request: LinkRequest, events: LinkEvents): Link {
    return this.#failures < MAX_FAILURES ? this.#openSocket(request, events) : this.#openHttp(request, events);
  }

  #openSocket(request: LinkRequest, events: LinkEvents): Link {
    // The server knows no connection over HTTP.
    const replaces = request.replaces?.startsWith("http:") ? undefined : request.replaces;
    let isPending = true;
    const settle = (failures: number) => {
      if (isPending) this.#failures = failures;
      isPending = false;
    };
    const link = this.#transport.open(
      { ...request, replaces },
      {
        received: (text) => events.received(text),
        opened: () => {
          settle(0);
          events.opened();
        },
        closed: (code) => {
          settle(this.#failures + 1);
          events.closed(code);
        },
      },
    );
    return {
      send: (text) => link.send(text),
      close: () => {
        settle(this.#failures + 1);
        link.close();
      },
    };
  }

  #openHttp(request: LinkRequest, events: LinkEvents): Link {
    let probe: Link | undefined;
    let timer: unknown;
    const end = () => {
      this.#environment.clearTimeout(timer);
      probe?.close();
      // Perhaps WebSockets work by the next attempt.
      this.#failures = Math.min(this.#failures, MAX_FAILURES - 1);
    };
    const link = new HttpLink(this.#world, request.token, {
      opened: () => events.opened(),
      received: (text) => events.received(text),
      closed: (code) => {
        end();
        events.closed(code);
      },
    });
    const again = () => {
      timer = this.#environment.setTimeout(() => {
        probe = this.#transport.open(
          { url: request.url, token: link.token, replaces: undefined },
          {
            received: () => {},
            closed: again,
            opened: () => {
              end();
              this.#failures = 0;
              const deadline = new Date(Date.now() + PROBE_MS).toISOString();
              events.received(JSON.stringify({ type: "reconnect", version: "1.0", data: { deadline } }));
            },
          },
        );
      }, PROBE_MS);
    };
    again();
    return {
      send: (text) => link.send(text),
      close: () => {
        end();
        link.close();
      },
    };
  }
}
