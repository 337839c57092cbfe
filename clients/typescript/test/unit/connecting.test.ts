import { describe, expect, it } from "vitest";
import type { ServerFrames } from "../../src/generated/frames.js";
import { Belfry } from "../../src/index.js";
import { connected, setUp } from "../support/client.js";
import { ManualEnvironment, settle } from "../support/clock.js";
import type { FakeServer } from "../support/server.js";

function errorFrame(server: FakeServer, code: string, more: object = {}): ServerFrames["error"] {
  const data = { code, message: "because", timestamp: server.timestamp(), ...more } as ServerFrames["error"]["data"];
  return { type: "error", version: "1.0", data };
}

describe("the first connection", () => {
  it("offers the token as a subprotocol and says hello", async () => {
    const { server, statuses, belfry } = await connected();
    expect(server.socket.url).toBe("wss://api.example.com/dev");
    expect(server.socket.protocols).toEqual(["belfry.v1", "bearer.token-1"]);
    expect(server.socket.received[0]).toMatchObject({
      type: "hello",
      data: { accepts: ["batch"], subscribe: { channels: [{ channel: "@me" }, { channel: "@all" }] } },
    });
    expect(statuses).toEqual([{ state: "connected", connectionId: "c1", userId: "alice" }]);
    expect(belfry.status.state).toBe("connected");
  });

  it("needs a WebSocket URL and a WebSocket", () => {
    const environment = new ManualEnvironment();
    const token = () => "t";
    expect(() => new Belfry({ url: "https://example.com", token, environment })).toThrow(TypeError);
    expect(() => new Belfry({ url: "wss://example.com", token, environment })).toThrow(/no WebSocket/);
  });

  it("is tried again, with growing waits", async () => {
    const { environment, server, belfry } = setUp({}, (server) => {
      server.accepts = false;
    });
    await settle();
    for (const wait of [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]) {
      server.socket.end(1006);
      const { length } = server.sockets;
      await environment.advance(wait - 1);
      expect(server.sockets.length).toBe(length);
      await environment.advance(1);
      expect(server.sockets.length).toBe(length + 1);
    }
    expect(belfry.status).toMatchObject({ state: "connecting", error: { code: "DISCONNECTED" } });
  });

  it("suspects the token before the third attempt", async () => {
    const { environment, server, reasons } = setUp({}, (server) => {
      server.accepts = false;
    });
    for (let attempt = 0; attempt < 3; attempt += 1) {
      await settle();
      server.socket.end(1006);
      await environment.advance(20_000);
    }
    expect(reasons).toEqual(["connect", "connect", "refused", "refused"]);
  });

  it("is given up if the handshake never ends", async () => {
    const { environment, server } = setUp({}, (server) => {
      server.accepts = false;
    });
    await environment.advance(40_000);
    expect(server.sockets.length).toBe(2);
    expect(server.sockets[0]?.state).toBe("closed");
  });

  it("waits for the answer to hello as long as API Gateway waits for the function", async () => {
    const { environment, server } = setUp({}, (server) => {
      server.intercept = (frame) => frame.type === "hello";
    });
    await environment.advance(34_999);
    expect(server.sockets.map(({ state }) => state)).toEqual(["open"]);
    await environment.advance(1);
    expect(server.sockets[0]?.state).toBe("closed");
    await environment.advance(2_000);
    expect(server.sockets.length).toBe(2);
  });

  it("says hello again, on the same connection, if a function failed", async () => {
    const { environment, server, belfry } = setUp({}, (server) => {
      let hellos = 0;
      server.intercept = (frame, socket) => {
        if (frame.type !== "hello" || ++hellos > 2) return false;
        if (hellos === 1) server.refuse(frame, socket, "INTERNAL");
        else socket.sendText('{"message":"Internal server error","connectionId":"c","requestId":"r"}');
        return true;
      };
    });
    await environment.advance(3_000);
    expect(belfry.status.state).toBe("connected");
    expect(server.sockets.length).toBe(1);
    expect(server.socket.of("hello").length).toBe(3);
  });

  it("works with a stack that allows only tiny frames", async () => {
    const { server, belfry } = setUp({}, (server) => {
      server.maxMessageBytes = 256;
      server.intercept = (frame, socket) => {
        if (JSON.stringify(frame).length <= 100) return false;
        server.refuse(frame, socket, "MESSAGE_TOO_LARGE");
        return true;
      };
    });
    await settle();
    expect(belfry.status.state).toBe("connected");
    expect(server.socket.of("hello").length).toBe(2);
  });

  it("works with one that fails once, too", async () => {
    let fails = true;
    const { environment, server, belfry } = setUp({}, (server) => {
      server.maxMessageBytes = 256;
      server.intercept = (frame, socket) => {
        const isTooLarge = JSON.stringify(frame).length > 100;
        if (!isTooLarge && !fails) return false;
        if (!isTooLarge) fails = false;
        server.refuse(frame, socket, isTooLarge ? "MESSAGE_TOO_LARGE" : "INTERNAL");
        return true;
      };
    });
    await environment.advance(1_000);
    expect(belfry.status.state).toBe("connected");
    expect(server.socket.of("hello").length).toBe(3);
  });
});

describe("a lost connection", () => {
  it("is opened again, and names the old one", async () => {
    const { environment, server, statuses } = await connected();
    server.socket.end(1006);
    expect(statuses.at(-1)).toMatchObject({ state: "reconnecting", retryInMs: 500, error: { code: "DISCONNECTED" } });
    await environment.advance(500);
    expect(server.socket.url).toBe("wss://api.example.com/dev?replaces=c1");
    expect(statuses.at(-1)).toMatchObject({ state: "connected", connectionId: "c2" });
  });

  it.each([
    ["close 1001", 1001, undefined, 0],
    ["close 1000", 1000, undefined, 500],
    ["UNKNOWN_CONNECTION", 1000, "UNKNOWN_CONNECTION", 0],
    ["TOKEN_EXPIRED", 1000, "TOKEN_EXPIRED", 0],
    ["UNAUTHORIZED", 1000, "UNAUTHORIZED", 0],
    ["RATE_LIMITED", 1000, "RATE_LIMITED", 7_000],
    ["an unknown code", 4_321, undefined, 500],
  ])("follows the advice for %s", async (_, code, error, wait) => {
    const { environment, server } = await connected();
    if (error) server.socket.send(errorFrame(server, error, error === "RATE_LIMITED" ? { retryAfterMs: 7_000 } : {}));
    server.socket.end(code);
    await environment.advance(Math.max(wait - 1, 0));
    expect(server.sockets.length).toBe(wait === 0 ? 2 : 1);
    await environment.advance(1);
    expect(server.sockets.length).toBe(2);
  });

  it("asks for a new token after TOKEN_EXPIRED", async () => {
    const { environment, server, reasons } = await connected();
    server.socket.send(errorFrame(server, "TOKEN_EXPIRED"));
    server.socket.end(1000);
    await environment.advance(1);
    expect(reasons).toEqual(["connect", "refused"]);
  });

  it("does not take an old answer for the reason of a close", async () => {
    const { environment, server, belfry } = await connected();
    server.intercept = (frame, socket) => {
      if (frame.type !== "auth.refresh") return false;
      server.refuse(frame, socket, "SIGNED_OUT");
      return true;
    };
    await environment.advance((3_600 - 60) * 1_000);
    server.socket.end(1000);
    await environment.advance(500);
    expect(belfry.status).toMatchObject({ state: "connected", connectionId: "c2" });
  });

  it("does not come back in a tight loop if nothing helps", async () => {
    const { environment, server } = await connected();
    for (let turn = 0; turn < 10; turn += 1) {
      server.socket.send(errorFrame(server, "UNKNOWN_CONNECTION"));
      server.socket.end(1000);
      await environment.advance(1_000);
    }
    expect(server.sockets.length).toBeLessThan(6);
  });

  it("waits a second again after a connection that lasted", async () => {
    const { environment, server } = await connected();
    for (let turn = 0; turn < 5; turn += 1) {
      await environment.advance(11_000);
      server.socket.end(1006);
      await environment.advance(500);
      expect(server.open.length).toBe(1);
    }
  });

  it("is not opened again after a sign-out, until the application says so", async () => {
    const { environment, server, belfry, reasons } = await connected();
    server.socket.send(errorFrame(server, "SIGNED_OUT"));
    server.socket.end(1000);
    expect(belfry.status).toMatchObject({ state: "closed", error: { code: "SIGNED_OUT", advice: "signIn" } });
    await environment.advance(3_600_000);
    expect(server.sockets.length).toBe(1);
    belfry.connect();
    await settle();
    expect(belfry.status.state).toBe("connected");
    expect(reasons).toEqual(["connect", "connect"]);
  });

  it.each([1002, 1003, 1007, 1009])("is not opened again after close %i", async (code) => {
    const { environment, server, belfry } = await connected();
    server.socket.end(code);
    await environment.advance(3_600_000);
    expect(server.sockets.length).toBe(1);
    expect(belfry.status.state).toBe("closed");
  });
});

describe("a wake-up", () => {
  it("ends the wait for the next attempt", async () => {
    const { environment, server } = await connected();
    server.socket.end(1006);
    await environment.wake();
    expect(server.sockets.length).toBe(2);
    expect(server.open.length).toBe(1);
  });

  it("finds a dead connection within ten seconds, and opens another at once", async () => {
    const { environment, server, belfry } = await connected();
    await environment.advance(20_000);
    server.socket.frozen = true;
    await environment.wake();
    await environment.advance(9_999);
    expect(server.sockets.length).toBe(1);
    await environment.advance(1);
    expect(server.sockets.length).toBe(2);
    expect(belfry.status).toMatchObject({ state: "connected", connectionId: "c2" });
  });

  it("leaves a living connection alone", async () => {
    const { environment, server } = await connected();
    await environment.wake();
    await environment.wake();
    await environment.advance(20_000);
    expect(server.sockets.length).toBe(1);
  });
});

describe("silence", () => {
  it("is broken by a ping, and an unanswered one ends the connection", async () => {
    const { environment, server } = await connected({ pingAfterMs: 60_000 });
    await environment.advance(59_999);
    expect(server.socket.of("ping").length).toBe(0);
    await environment.advance(1);
    expect(server.socket.of("ping").length).toBe(1);
    server.socket.frozen = true;
    await environment.advance(60_000 + 10_000);
    expect(server.sockets.length).toBe(2);
  });

  it("of a client is answered when the server asks", async () => {
    const { server } = await connected();
    server.socket.send({ type: "ping", version: "1.0" });
    expect(server.socket.of("pong").length).toBe(1);
  });
});

describe("the network", () => {
  it("that is known to be gone makes the state offline, as soon as the connection is dead", async () => {
    const { environment, server, belfry } = await connected();
    environment.online = false;
    server.socket.frozen = true;
    server.accepts = false;
    await environment.wake();
    await environment.advance(10_000);
    expect(belfry.status.state).toBe("offline");
  });

  it("is not tried at every event while it is known to be gone", async () => {
    const { environment, server } = await connected();
    environment.online = false;
    server.socket.end(1006);
    for (let count = 0; count < 5; count += 1) await environment.wake();
    expect(server.sockets.length).toBe(1);
  });

  it("that is back makes the state connected", async () => {
    const { environment, server, belfry } = await connected();
    environment.online = false;
    server.socket.end(1006);
    expect(belfry.status.state).toBe("offline");
    environment.online = true;
    await environment.wake();
    expect(belfry.status.state).toBe("connected");
  });
});

describe("a handover", () => {
  it("opens the new connection before it closes the old one", async () => {
    const { server, statuses } = await connected();
    server.accepts = false;
    const [old] = server.sockets;
    old?.send({ type: "reconnect", version: "1.0", data: { deadline: server.timestamp(600_000) } });
    await settle();
    expect(server.socket.url).toContain("replaces=c1");
    expect(old?.state).toBe("open");
    server.socket.accept();
    await settle();
    expect(old?.state).toBe("closed");
    expect(statuses.map(({ state }) => state)).toEqual(["connected", "connected"]);
  });

  it("happens at a moment of the client's own if an operator asks many", async () => {
    const { environment, server } = await connected();
    environment.chance = 0.25;
    server.socket.send({
      type: "reconnect",
      version: "1.0",
      data: { deadline: server.timestamp(60_000), withinMs: 60_000 },
    });
    await environment.advance(14_999);
    expect(server.sockets.length).toBe(1);
    await environment.advance(1);
    expect(server.sockets.length).toBe(2);
    expect(server.open.map(({ connectionId }) => connectionId)).toEqual(["c2"]);
  });

  it("that an operator has asked for does not outlive the client", async () => {
    const { environment, server, belfry } = await connected();
    environment.chance = 0.25;
    server.socket.send({
      type: "reconnect",
      version: "1.0",
      data: { deadline: server.timestamp(60_000), withinMs: 60_000 },
    });
    await settle();
    await belfry.close();
    await environment.advance(60_000);
    expect(server.sockets.length).toBe(1);
  });

  it("happens before the connection's end even if the server does not ask for it", async () => {
    const { environment, server } = await connected({}, (server) => {
      server.tokenSeconds = 86_400;
    });
    await environment.advance((7_200 - 300) * 1_000 - 1);
    expect(server.sockets.length).toBe(1);
    await environment.advance(1);
    expect(server.sockets.length).toBe(2);
    expect(server.open.length).toBe(1);
  });

  it("is tried again while the old connection serves", async () => {
    const { environment, server, belfry } = await connected();
    server.accepts = false;
    server.socket.send({ type: "reconnect", version: "1.0", data: { deadline: server.timestamp(600_000) } });
    await settle();
    server.socket.end(1006);
    expect(belfry.status.state).toBe("connected");
    server.accepts = true;
    await environment.advance(1_000);
    expect(server.open.map(({ connectionId }) => connectionId)).toEqual(["c3"]);
  });

  it("keeps the old connection until its requests are answered", async () => {
    const { environment, server, belfry } = await connected();
    const [old] = server.sockets;
    const held: Array<() => void> = [];
    server.intercept = (frame, socket) => {
      if (frame.type !== "publish") return false;
      held.push(() => server.answer(frame, socket));
      return true;
    };
    const published = belfry.channel("room:7").publish("chat.line", { text: "hi" });
    await settle();
    old?.send({ type: "reconnect", version: "1.0", data: { deadline: server.timestamp(600_000) } });
    await settle();
    expect(server.open.length).toBe(2);
    for (const answer of held) answer();
    await expect(published).resolves.toMatchObject({ channel: "room:7" });
    await environment.advance(1);
    expect(server.open.map(({ connectionId }) => connectionId)).toEqual(["c2"]);
  });
});

describe("close", () => {
  it("by a listener that learns of the connection is final", async () => {
    const { environment, server, belfry, statuses } = setUp();
    belfry.on("status", ({ state }) => state === "connected" && belfry.close());
    await settle();
    expect(environment.pendingTimers).toBe(0);
    expect(statuses.map(({ state }) => state)).toEqual(["connected", "closed"]);
    expect(server.open).toEqual([]);
  });

  it("leaves no timer, no listener and no socket", async () => {
    const { environment, server, belfry, statuses } = await connected();
    const room = belfry.channel("room:7");
    room.on("message", () => {});
    await settle();
    void room.publish("chat.line").catch(() => {});
    belfry.close();
    await settle();
    expect(environment.pendingTimers).toBe(0);
    expect(environment.pendingWakes).toBe(0);
    expect(server.open).toEqual([]);
    expect(statuses.at(-1)).toEqual({ state: "closed" });
  });

  it("also ends a connection that was replaced and owes an answer", async () => {
    const { environment, server, belfry } = await connected();
    const old = server.open[0];
    server.intercept = ({ type }) => type === "publish";
    const rejected = expect(belfry.channel("room:7").publish("chat.line")).rejects.toMatchObject({ code: "CLOSED" });
    await settle();
    old?.send({ type: "reconnect", version: "1.0", data: { deadline: server.timestamp(600_000) } });
    await settle();
    expect(server.open).toHaveLength(2);
    belfry.close();
    await rejected;
    expect(server.open).toEqual([]);
    expect(environment.pendingTimers).toBe(0);
  });

  it.each(["while it asks for a token", "while it connects", "while it waits"])("works %s", async (moment) => {
    const { environment, server, belfry } = setUp({}, (server) => {
      server.accepts = false;
    });
    if (moment !== "while it asks for a token") await settle();
    if (moment === "while it waits") server.socket.end(1006);
    belfry.close();
    await environment.advance(3_600_000);
    expect(server.open).toEqual([]);
    expect(server.sockets.length).toBe(moment === "while it asks for a token" ? 0 : 1);
    expect(environment.pendingTimers).toBe(0);
  });
});
