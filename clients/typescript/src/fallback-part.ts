import type { Environment } from "./environment.js";
import type { Transport } from "./transport.js";

/** Adds another transport to WebSockets: `http` of `@belfry/client/http`. */
export type FallbackPart = (transport: Transport, environment: Environment) => Transport;
