// Serves the calls quote.get and quote.edit, and tells everybody who looks at a quote what has changed.

import { publish } from "./publish.mjs";
import { Quotes } from "./quote.mjs";

const quotes = new Quotes();

/** Belfry's `call`. An error thrown here is CALL_FAILED to the client, without a reason. */
export async function handler({ connectionId, userId, action, data }) {
  const id = data?.id;
  // It becomes part of a channel's name.
  if (typeof id !== "string" || !/^[A-Za-z0-9-]{1,40}$/.test(id)) return refusal("invalid", ["id"]);
  // Here is where to check that this user may see and edit this quote: by userId and claims, never by data.
  switch (action) {
    case "quote.get":
      return { ok: true, quote: quotes.get(id) };
    case "quote.edit":
      return edit(id, data, userId, connectionId);
    default:
      return refusal("unknown action");
  }
}

async function edit(id, { version, set }, userId, connectionId) {
  if (typeof set !== "object" || set === null || Array.isArray(set)) return refusal("invalid", ["set"]);
  const result = quotes.edit(id, version, set);
  if (result.ok) {
    const change = { kind: "quote.changed", id, quote: result.quote, changed: Object.keys(set), by: userId };
    // The caller has the result, so its own connection needs no copy.
    await publish(`demo:quote:${id}`, change, [connectionId]);
  }
  return result;
}

function refusal(reason, fields) {
  return { ok: false, reason, fields };
}
