import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import WebSocket from "ws";
import { closeClients, RealClient, Transcript } from "../support/real.js";
import { Stack } from "../support/stack.js";

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start();
});
afterEach(closeClients);
afterAll(() => stack.stop());

function messages(...texts: string[]): object[] {
  return texts.map((text) => ({ type: "notification", data: { kind: "cell.changed", text } }));
}

describe("several messages at once", () => {
  it("arrive in one frame, before and after a cut, and are delivered one by one", async () => {
    const types: string[] = [];
    class Recording extends WebSocket {
      constructor(url: string, protocols: string[]) {
        super(url, protocols);
        this.on("message", (data) => types.push(JSON.parse(String(data)).type));
      }
    }
    const client = await RealClient.connect(stack, "alice", { WebSocket: Recording as never });
    const transcript = await Transcript.of(client.belfry.channel("room:batch"));
    const send = (...texts: string[]) =>
      stack.invoke("Broadcaster", {
        target: { type: "channel", channel: "room:batch" },
        messages: messages(...texts),
      });
    await send("a", "b");
    await transcript.until((one) => one.messages.length === 2);
    client.network.cut();
    await client.untilReconnected();
    await send("c", "d", "e");
    await transcript.until((one) => one.messages.length === 5);
    expect(transcript.texts).toEqual(["a", "b", "c", "d", "e"]);
    expect(types.filter((type) => type === "batch" || type === "notification")).toEqual(["batch", "batch"]);
  });

  it("reach a user in order", async () => {
    const client = await RealClient.connect(stack, "bob");
    const arrived = new Promise<void>((resolve) => client.belfry.on("last", () => resolve()));
    await stack.invoke("Broadcaster", {
      target: { type: "user", userId: "bob" },
      messages: [...messages("a", "b"), { type: "notification", data: { kind: "last" } }],
    });
    await arrived;
    expect(client.notifications.map(({ data }) => (data as { text?: string }).text)).toEqual(["a", "b", undefined]);
  });
});
