import type { Channel, Lost, Message } from "@belfry/client";
import { StrictMode } from "react";
import { afterEach, describe, expect, it, vi } from "vitest";
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
    expect(seen.error?.code).toBe("FORBIDDEN");
    await all.publish("room:7", "two");
    expect(seen).toMatchObject({ status: "subscribed", error: undefined });
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
    const subscribe = vi.spyOn(seen.channel as Channel, "subscribe");
    all.server.accepts = false;
    await during(() => all.server.socket.end());
    await during(() => all.environment.advance(600_000));
    expect(all.server.sockets.length).toBeGreaterThan(10);
    all.server.accepts = true;
    await during(() => all.environment.advance(60_000));
    expect(seen.status).toBe("subscribed");
    // Each call would wait for the answer until it comes.
    expect(subscribe.mock.calls.length).toBe(1);
  });
});
