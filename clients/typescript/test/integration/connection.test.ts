import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { closeClients, RealClient } from "../support/real.js";
import { Stack } from "../support/stack.js";

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start("--schedule-every", "1s", "--parameter", "MaxConnectionsPerUser=2");
});
afterEach(closeClients);
afterAll(() => stack.stop());

async function kick(client: RealClient, code: string): Promise<void> {
  const target = { type: "connections", connectionIds: [client.connectionId] };
  const report = await stack.invoke("Operator", { action: "kick", target, code, waitSeconds: 20 });
  expect(report).toMatchObject({ status: "done", success: 1 });
}

describe("a connection", () => {
  it("is opened with the token as a subprotocol, and says whose it is", async () => {
    const client = await RealClient.connect(stack, "alice");
    expect(client.belfry.status).toMatchObject({ state: "connected", userId: "alice" });
    expect(client.reasons).toEqual(["connect"]);
  });

  it("that is cut is opened again, with the capacity of the old one", async () => {
    // The stack has not noticed that the old connections are dead, and the user may have two.
    const [one, other] = [await RealClient.connect(stack, "cut"), await RealClient.connect(stack, "cut")];
    for (let turn = 0; turn < 3; turn += 1) {
      one.network.cut();
      await one.untilReconnected();
    }
    expect(other.states).toEqual(["connected"]);
    expect(one.states).toEqual(["connected", ...Array(3).fill(["reconnecting", "connected"]).flat()]);
  });

  it("that an operator closes is opened again", async () => {
    const client = await RealClient.connect(stack, "closed");
    await stack.disconnect(client.connectionId);
    await client.untilReconnected();
  });

  it.each([
    ["RECONNECT", "connect"],
    ["TOKEN_EXPIRED", "refused"],
  ])("that an operator kicks with %s is opened again", async (code, reason) => {
    const client = await RealClient.connect(stack, `kicked-${code}`);
    await kick(client, code);
    await client.untilReconnected();
    expect(client.reasons).toEqual(["connect", reason]);
  });

  it("that an operator closes for good is not opened again", async () => {
    const client = await RealClient.connect(stack, "kicked-for-good");
    await kick(client, "CLOSED_BY_OPERATOR");
    await client.until("closed");
    expect(client.states).toEqual(["connected", "closed"]);
  });

  it("that an operator drains is replaced within the time", async () => {
    const client = await RealClient.connect(stack, "drained");
    const [before, target] = [client.connectionId, { type: "user", userId: "drained" }];
    await stack.invoke("Operator", { action: "drain", target, withinSeconds: 10 });
    await client.nextStatus();
    expect(client.states).toEqual(["connected", "connected"]);
    expect(client.connectionId).not.toBe(before);
  });

  it("is tried again while the network is away", async () => {
    const client = await RealClient.connect(stack, "away");
    client.network.block(true);
    client.network.cut();
    await client.until("reconnecting");
    await client.nextStatus();
    client.network.block(false);
    await client.until("connected");
    expect(new Set(client.states)).toEqual(new Set(["connected", "reconnecting"]));
  });

  it("is opened at once after a wake-up", async () => {
    // By itself, this client would wait for a minute.
    const client = await RealClient.connect(stack, "waking", { speed: 0.01 });
    client.network.cut();
    await client.until("reconnecting");
    client.environment.wake();
    await client.until("connected");
  });

  it("that is dead is found after a wake-up", async () => {
    const client = await RealClient.connect(stack, "dead");
    client.network.freeze();
    client.environment.wake();
    await client.untilReconnected();
    expect(client.network.count).toBe(2);
  });

  it("that is dead is found by a ping after silence", async () => {
    const client = await RealClient.connect(stack, "silent", { pingAfterMs: 5_000 });
    client.network.freeze();
    await client.untilReconnected();
  });

  it("is tried again if the function dies", async () => {
    const end = await stack.fault({ fault: "function-kill", function: "Connect", times: 2 });
    const client = await RealClient.connect(stack, "killed");
    expect(client.network.count).toBe(3);
    // A refused handshake may be about the token, so before the third attempt the client suspects it.
    expect(client.reasons).toEqual(["connect", "connect", "refused"]);
    await end();
  });

  it("is not replaced if a function dies at hello: that is said again", async () => {
    const end = await stack.fault({ fault: "function-kill", function: "Default", times: 1 });
    const client = await RealClient.connect(stack, "unanswered");
    expect(client.network.count).toBe(1);
    await end();
  });
});

describe("notifications", () => {
  it("reach the user, also after a cut", async () => {
    const client = await RealClient.connect(stack, "notified");
    const received = () =>
      new Promise((resolve) => {
        const stop = client.belfry.on("upload.completed", ({ data }) => {
          stop();
          resolve(data.file);
        });
      });
    let file = received();
    await stack.notify("notified", { kind: "upload.completed", file: "a.png" });
    await expect(file).resolves.toBe("a.png");
    client.network.cut();
    await client.untilReconnected();
    file = received();
    await stack.notify("notified", { kind: "upload.completed", file: "b.png" });
    await expect(file).resolves.toBe("b.png");
  });
});
