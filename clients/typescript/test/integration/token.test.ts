import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { closeClients, RealClient } from "../support/real.js";
import { Stack } from "../support/stack.js";

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start("--schedule-every", "1s");
});
afterAll(async () => {
  closeClients();
  await stack.stop();
});

describe.concurrent("a token", () => {
  it("is replaced before it expires, without a new connection", async () => {
    let count = 0;
    let reached = () => {};
    const often = new Promise<void>((resolve) => (reached = resolve));
    const client = await RealClient.connect(stack, "refreshed", {
      speed: 1,
      token: () => {
        count += 1;
        // Every two seconds: when the fifth is there, the first two have expired.
        if (count === 5) reached();
        return stack.token("refreshed", { ttl: 4 });
      },
    });
    const { connectionId } = client;
    const room = client.belfry.channel("room:refresh");
    await room.subscribe();
    await often;
    await expect(room.publish("chat.line")).resolves.toMatchObject({ position: { seq: 1 } });
    expect(client.connectionId).toBe(connectionId);
    expect(client.reasons).toEqual(["connect", ...Array(4).fill("expiring")]);
  });

  it("that expires because no other could be had ends the connection; a new one opens the next", async () => {
    let isAvailable = true;
    const client = await RealClient.connect(stack, "expired", {
      speed: 1,
      token: async () => {
        if (!isAvailable) throw new Error("the session cannot be refreshed");
        return stack.token("expired", { ttl: 3 });
      },
    });
    isAvailable = false;
    const status = await client.until("offline");
    expect(status).toMatchObject({ error: { code: "TOKEN_UNAVAILABLE", cause: { message: /cannot be refreshed/ } } });
    isAvailable = true;
    await client.until("connected");
    expect(client.reasons).toContain("refused");
  });

  it("that is refused is asked for again", async () => {
    const client = await RealClient.connect(stack, "refused", {
      token: ({ reason }) => stack.token("refused", { ttl: reason === "refused" ? 60 : -60 }),
    });
    expect(client.reasons).toEqual(["connect", "connect", "refused"]);
  });

  it("of a user who is signed out ends it all, until the user signs in", async () => {
    const client = await RealClient.connect(stack, "leaver");
    await stack.invoke("Operator", { action: "signOut", userId: "leaver" });
    const status = await client.until("closed");
    expect(status).toMatchObject({ error: { code: "SIGNED_OUT", advice: "signIn" } });
    // Tokens of the five seconds after a sign-out are void as well, so the first attempts fail.
    client.belfry.connect();
    await client.until("connected");
  });
});
