import { Belfry, type Lost, type Message } from "@belfry/client";
import { StrictMode, useEffect } from "react";
import { afterEach, describe, expect, it } from "vitest";
import { type UseChannel, type UseChannelOptions, useChannel, useWebSocket } from "../../src/index.js";
import { cleanUp, during, render } from "../support/render.js";
import { World } from "../support/world.js";

afterEach(cleanUp);

let seen: UseChannel;
let renders = 0;
let socket: ReturnType<typeof useWebSocket>;
function Room({ name = "room:7", ...options }: { name?: string | null } & UseChannelOptions) {
  renders += 1;
  socket = useWebSocket();
  seen = useChannel(name, options);
  return <ul>{textsOf(seen.messages).join(" ")}</ul>;
}

const published: unknown[] = [];
function Greeter() {
  const { publish } = useChannel("room:7");
  useEffect(() => {
    publish("chat.line", { text: "hello" }).then(({ position }) => published.push(position?.seq));
  }, [publish]);
  return null;
}

function textsOf(messages: readonly Message[]): string[] {
  return messages.map(({ data }) => (data as { text: string }).text);
}

/** A server with a history of one channel. */
function world(): World {
  const world = new World();
  world.server.log("room:7");
  return world;
}

/** The channels that clients have asked to subscribe to, as often as they did. */
function subscribed({ server }: World): string[] {
  const wanted = server.sockets.flatMap((one) => [
    ...one.of("hello").flatMap(({ data }) => data?.subscribe?.channels ?? []),
    ...one.of("subscribe").flatMap(({ data }) => data.channels),
  ]);
  return wanted.map(({ channel }) => channel).filter((channel) => !channel.startsWith("@"));
}

function unsubscribed({ server }: World): string[] {
  return server.sockets.flatMap((one) => one.of("unsubscribe")).flatMap(({ data }) => data.channels);
}

describe("useChannel", () => {
  it("subscribes, shows messages, and unsubscribes", async () => {
    const all = world();
    const { container, rerender } = await render(all.provide(<Room />));
    expect(seen.status).toBe("subscribed");
    expect(seen.channel?.name).toBe("room:7");
    await all.publish("room:7", "one", "two");
    expect(container.textContent).toBe("one two");
    await rerender(all.provide(null));
    expect(unsubscribed(all)).toEqual(["room:7"]);
  });

  it("subscribes once in StrictMode, and leaves nothing behind", async () => {
    const all = world();
    const { unmount } = await render(<StrictMode>{all.provide(<Room />)}</StrictMode>);
    expect(subscribed(all)).toEqual(["room:7"]);
    expect(unsubscribed(all)).toEqual([]);
    await unmount();
    expect(all.isQuiet).toBe(true);
  });

  it("shares a channel among components, until the last one leaves", async () => {
    const all = world();
    const two = (isSecond: boolean) => (
      <>
        <Room key="first" />
        {isSecond && <Room key="second" />}
      </>
    );
    const { container, rerender } = await render(all.provide(two(false)));
    await all.publish("room:7", "one");
    await rerender(all.provide(two(true)));
    // The second one has what the first one has received.
    expect(container.textContent).toBe("oneone");
    await rerender(all.provide(<Room key="second" />));
    expect(unsubscribed(all)).toEqual([]);
    await all.publish("room:7", "two");
    expect(container.textContent).toBe("one two");
    await rerender(all.provide(null));
    expect(unsubscribed(all)).toEqual(["room:7"]);
  });

  it("keeps its messages when another component takes over", async () => {
    const all = world();
    const { container, rerender } = await render(all.provide(<Room key="first" />));
    await all.publish("room:7", "one");
    await rerender(all.provide(<Room key="second" />));
    expect(container.textContent).toBe("one");
    expect(subscribed(all)).toEqual(["room:7"]);
  });

  it("keeps the newest messages", async () => {
    const all = world();
    await render(all.provide(<Room limit={2} />));
    await all.publish("room:7", "one", "two", "three");
    expect(textsOf(seen.messages)).toEqual(["two", "three"]);
  });

  it("tells listeners without rendering anew", async () => {
    const all = world();
    const heard: Message[] = [];
    await render(all.provide(<Room limit={0} onMessage={(message) => heard.push(message)} />));
    const before = renders;
    await all.publish("room:7", "one", "two");
    expect(textsOf(heard)).toEqual(["one", "two"]);
    expect(renders).toBe(before);
  });

  it("renders once for messages that come together", async () => {
    const all = world();
    await render(all.provide(<Room />));
    const before = renders;
    await all.publish("room:7", ...Array.from({ length: 50 }, (_, index) => `${index}`));
    expect(seen.messages.length).toBe(50);
    expect(renders).toBe(before + 1);
  });

  it("moves to another channel, or to none", async () => {
    const all = world();
    all.server.log("room:8");
    const { rerender } = await render(all.provide(<Room />));
    await all.publish("room:7", "one");
    await rerender(all.provide(<Room name="room:8" />));
    expect(seen.messages).toEqual([]);
    expect(subscribed(all)).toEqual(["room:7", "room:8"]);
    expect(unsubscribed(all)).toEqual(["room:7"]);
    await rerender(all.provide(<Room name={null} />));
    expect(unsubscribed(all)).toEqual(["room:7", "room:8"]);
    expect(seen.channel).toBe(null);
    await expect(seen.publish("chat.line")).rejects.toMatchObject({ code: "CLOSED" });
  });

  it("publishes", async () => {
    const all = world();
    await render(all.provide(<Room />));
    await during(async () => {
      const { position } = await seen.publish("chat.line", { text: "hello" });
      expect(position?.seq).toBe(1);
    });
  });

  it("recovers messages after a cut, in the same order", async () => {
    const all = world();
    await render(all.provide(<Room />));
    await all.publish("room:7", "one");
    await during(() => all.server.socket.end());
    expect(seen.status).toBe("subscribing");
    all.server.log("room:7").append("two");
    await during(() => all.environment.advance(60_000));
    expect(seen.status).toBe("subscribed");
    expect(textsOf(seen.messages)).toEqual(["one", "two"]);
    expect(seen.lost).toBe(null);
  });

  it("says what is lost, until the component has fetched it", async () => {
    const all = world();
    const losses: Lost[] = [];
    await render(all.provide(<Room onLost={(lost) => losses.push(lost)} />));
    await all.publish("room:7", "one");
    await during(() => all.server.socket.end());
    const log = all.server.log("room:7");
    log.append("two");
    log.append("three");
    log.expired = 2;
    await during(() => all.environment.advance(60_000));
    expect(seen.lost?.reason).toBe("expired");
    expect(losses.map(({ reason }) => reason)).toEqual(["expired"]);
    await during(() => seen.clearLost());
    expect(seen.lost).toBe(null);
  });

  it("is refused, and tries again with the next connection", async () => {
    const all = world();
    all.server.forbidden.add("room:7");
    await render(all.provide(<Room />));
    expect(seen).toMatchObject({ status: "refused", error: { code: "FORBIDDEN" } });
    all.server.forbidden.clear();
    await all.cut();
    expect(seen).toMatchObject({ status: "subscribed", error: undefined });
  });

  it("is subscribed all the same if the server refuses something else", async () => {
    const all = world();
    await render(all.provide(<Room />));
    await all.publish("room:7", "one");
    all.server.intercept = (frame, to) => {
      if (frame.type === "ack") all.server.refuse(frame, to, "FORBIDDEN");
      return frame.type === "ack";
    };
    await during(() => seen.channel?.ack());
    await during(() => all.environment.advance(1_000));
    expect(all.server.socket.of("ack").length).toBe(1);
    expect(seen).toMatchObject({ status: "subscribed", error: undefined });
  });

  it("stays refused when a message comes late", async () => {
    const all = world();
    await render(all.provide(<Room />));
    const data = { channels: ["room:7"], reason: "FORBIDDEN" };
    await during(() => all.server.socket.send({ type: "unsubscribed", version: "1.0", data } as never));
    await all.publish("room:7", "late");
    expect(seen).toMatchObject({ status: "refused", error: { code: "FORBIDDEN" } });
  });

  it("refuses what is not the name of a channel", async () => {
    await render(world().provide(<Room name="not a name" />));
    expect(seen).toMatchObject({ status: "refused", error: { code: "INVALID_MESSAGE" } });
  });

  it("works again after close and connect", async () => {
    const all = world();
    await render(all.provide(<Room />));
    await during(() => socket.close());
    expect(seen.status).toBe("subscribing");
    await during(() => socket.connect());
    expect(seen.status).toBe("subscribed");
    await all.publish("room:7", "one");
    expect(textsOf(seen.messages)).toEqual(["one"]);
  });

  it("follows the provider to another client", async () => {
    const all = world();
    const { rerender } = await render(all.provide(<Room />));
    await all.publish("room:7", "one");
    await rerender(all.provide(<Room />, { url: "wss://other.example.com/dev" }));
    expect(seen.status).toBe("subscribed");
    expect(seen.messages).toEqual([]);
    expect(all.server.open.length).toBe(1);
  });

  it("begins after what the user has acknowledged", async () => {
    const all = world();
    const log = all.server.log("room:7");
    for (const text of ["one", "two"]) log.append(text);
    all.server.acked.set("room:7", { epoch: "e1", seq: 1 });
    await render(all.provide(<Room since="acked" />));
    expect(textsOf(seen.messages)).toEqual(["two"]);
  });

  it("subscribes again when a connection is possible again, after many attempts", async () => {
    const all = world();
    await render(all.provide(<Room />));
    all.server.accepts = false;
    await during(() => all.server.socket.end());
    await during(() => all.environment.advance(600_000));
    expect(all.server.sockets.length).toBeGreaterThan(10);
    all.server.accepts = true;
    await during(() => all.environment.advance(60_000));
    expect(seen.status).toBe("subscribed");
  });

  it("shows nothing of the user before", async () => {
    const all = world();
    const losses: Array<Lost | null> = [];
    await render(all.provide(<Room onLost={(lost) => losses.push(lost)} />));
    await all.publish("room:7", "for alice");
    all.server.log("room:7").restart("e2");
    all.server.log("room:7").append("more");
    await all.cut();
    expect(seen.lost?.reason).toBe("epoch");
    all.server.userId = "bob";
    all.server.forbidden.add("room:7");
    await all.cut();
    expect(seen).toMatchObject({ status: "refused", messages: [], lost: null });
    expect(losses.length).toBe(1);
  });

  it("begins anew when no component wants what was not acknowledged any more", async () => {
    const all = world();
    all.server.log("room:7").append("one");
    all.server.acked.set("room:7", { epoch: "e1", seq: 1 });
    const both = (since: { since?: "acked" }) => all.provide([<Room key="a" {...since} />, <Room key="b" />]);
    const { rerender } = await render(both({ since: "acked" }));
    await rerender(both({}));
    const asked = all.server.socket.of("subscribe").at(-1)?.data.channels[0];
    expect(asked).toMatchObject({ channel: "room:7", since: { epoch: "e1", seq: 1 } });
    all.server.userId = "bob";
    await all.cut();
    expect(all.server.socket.of("subscribe").flatMap(({ data }) => data.channels)).toContainEqual({
      channel: "room:7",
    });
  });

  it("publishes from the first effects, and not without a provider", async () => {
    const all = world();
    const { unmount } = await render(all.provide([<Greeter key="g" />, <Room key="r" />]));
    expect(published).toEqual([1]);
    await unmount();
    await expect(seen.publish("chat.line")).rejects.toMatchObject({ code: "CLOSED" });
  });

  it("is left to the application, and to other providers, with the same client", async () => {
    const all = world();
    const client = new Belfry({ url: "wss://api.example.com/dev", token: all.token, environment: all.environment });
    const own: Message[] = [];
    const stop = client.channel("room:7").on("message", (message) => own.push(message));
    const { rerender } = await render([
      <div key="1">{all.provide(<Room />, { client })}</div>,
      <div key="2">{all.provide(<Room />, { client })}</div>,
    ]);
    await rerender([<div key="2">{all.provide(<Room />, { client })}</div>]);
    await all.publish("room:7", "one");
    expect(textsOf(seen.messages)).toEqual(["one"]);
    await rerender(null);
    await all.publish("room:7", "two");
    expect(textsOf(own)).toEqual(["one", "two"]);
    stop();
    await rerender(all.provide(<Room />, { client }));
    await rerender(null);
    expect(unsubscribed(all)).toEqual(["room:7"]);
    client.close();
    expect(all.isQuiet).toBe(true);
  });
});
