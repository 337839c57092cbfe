import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import { connected, setUp } from "../support/client.js";
import { settle } from "../support/clock.js";

describe("a token", () => {
  it("is replaced a minute before it expires, on the same connection", async () => {
    const { environment, server, reasons } = await connected({}, (server) => {
      server.connectionSeconds = 86_400;
    });
    await environment.advance((3_600 - 60) * 1_000 - 1);
    expect(server.socket.of("auth.refresh")).toEqual([]);
    await environment.advance(1);
    expect(server.socket.of("auth.refresh")).toMatchObject([{ data: { token: "token-2" } }]);
    expect(reasons).toEqual(["connect", "expiring"]);
    await environment.advance((3_600 - 60) * 1_000);
    expect(reasons).toEqual(["connect", "expiring", "expiring"]);
    expect(server.sockets.length).toBe(1);
  });

  it("that is short-lived is replaced after half of its life", async () => {
    const { environment, server } = await connected({}, (server) => {
      server.tokenSeconds = 20;
    });
    await environment.advance(10_000);
    expect(server.socket.of("auth.refresh").length).toBe(1);
  });

  it("is counted by the server's clock", async () => {
    // The server of these tests lives in 2031.
    const { environment, server } = await connected();
    await environment.advance(60_000);
    expect(server.socket.of("auth.refresh")).toEqual([]);
  });

  it("that is refused is asked for again, with the reason", async () => {
    const { environment, server, reasons } = await connected();
    let refusals = 2;
    server.intercept = (frame, socket) => {
      if (frame.type !== "auth.refresh" || refusals-- <= 0) return false;
      server.refuse(frame, socket, "UNAUTHORIZED");
      return true;
    };
    await environment.advance((3_600 - 60) * 1_000);
    await environment.advance(500 + 1_000);
    expect(reasons).toEqual(["connect", "expiring", "refused", "refused"]);
    expect(server.socket.of("auth.refresh").length).toBe(3);
    expect(server.sockets.length).toBe(1);
  });

  it("that extends nothing is asked for again", async () => {
    const { environment, server, reasons } = await connected();
    const { tokenSeconds } = server;
    server.tokenSeconds = 30;
    await environment.advance((3_600 - 60) * 1_000);
    server.tokenSeconds = tokenSeconds;
    await environment.advance(500);
    expect(reasons).toEqual(["connect", "expiring", "refused"]);
  });

  it("that cannot be had makes the client offline, and is asked for again for ever", async () => {
    let fails = true;
    const failure = new Error("no network");
    const { environment, belfry, server, statuses } = setUp({
      token: async () => {
        if (fails) throw failure;
        return "token";
      },
    });
    await settle();
    expect(belfry.status).toMatchObject({
      state: "offline",
      error: { code: "TOKEN_UNAVAILABLE", cause: failure },
      retryInMs: 500,
    });
    await environment.advance(3_600_000);
    expect(statuses.length).toBeGreaterThan(100);
    fails = false;
    await environment.advance(30_000);
    expect(belfry.status.state).toBe("connected");
    expect(server.sockets.length).toBe(1);
  });

  it.each([undefined, null, ""])("of %j counts as none", async (nothing) => {
    const { belfry } = setUp({ token: () => nothing });
    await settle();
    expect(belfry.status).toMatchObject({ state: "offline", error: { code: "TOKEN_UNAVAILABLE" } });
  });

  it("that never comes is given up after half a minute", async () => {
    let calls = 0;
    const { environment, belfry } = setUp({
      token: () => {
        calls += 1;
        return new Promise(() => {});
      },
    });
    await environment.advance(30_000);
    expect(belfry.status.state).toBe("offline");
    await environment.advance(500);
    expect(calls).toBe(2);
  });

  it("that no subprotocol can carry is a failure like any other, and is not repeated in the error", async () => {
    const { environment, belfry } = setUp({}, () => {});
    await settle();
    const { WebSocket } = environment;
    environment.WebSocket = class {
      constructor() {
        throw new SyntaxError(`The subprotocol 'bearer.token-1' is invalid.`);
      }
    } as unknown as typeof WebSocket;
    const broken = setUp({ environment });
    await settle();
    const { status } = broken.belfry;
    expect(status).toMatchObject({ state: "offline", error: { code: "TOKEN_UNAVAILABLE" } });
    expect(inspect(status)).not.toContain("token-1");
    belfry.close();
  });
});
