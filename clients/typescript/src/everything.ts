// The client with all of its parts, for `belfry.min.js`: a page without a bundler cannot put them together.

export { http } from "./http.js";
export * from "./index.js";
export { locks } from "./locks.js";
export { presence } from "./presence.js";
