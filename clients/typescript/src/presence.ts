import { PresenceList } from "./presence-list.js";
import type { PresencePart } from "./presence-part.js";

export type { Presence, PresentUser } from "./presence-part.js";

/**
 * Who is present in channels, for the option `presence` of a client:
 *
 * ```ts
 * import { presence } from "@belfry/client/presence";
 *
 * const belfry = new Belfry({ url, token, presence });
 * const room = belfry.channel("room:7", { presence: { name: "Alice" } });
 * ```
 */
export const presence: PresencePart = (read) => new PresenceList(read);
