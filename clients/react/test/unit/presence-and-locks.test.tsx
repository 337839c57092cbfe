import { Belfry, BelfryError, type LockOptions, type PresenceInfo } from "@belfry/client";
import { presence as presencePart } from "@belfry/client/presence";
import { StrictMode } from "react";
import { afterEach, describe, expect, it } from "vitest";
import {
  type Call,
  type UseLock,
  type UsePresence,
  useCall,
  useChannel,
  useLock,
  usePresence,
} from "../../src/index.js";
import { cleanUp, during, render } from "../support/render.js";
import { World } from "../support/world.js";

afterEach(cleanUp);

/** A server with a history of one channel. */
function world(): World {
  const world = new World();
  world.server.log("room:7");
  return world;
}

let presence: UsePresence;
function Present({ info, name = "room:7" }: { info?: PresenceInfo; name?: string | null }) {
  presence = usePresence(name, info);
  return <p>{presence.members.map(({ userId }) => userId).join(" ")}</p>;
}

let price: UseLock;
let renders = 0;
function Price({ name = "room:7", options = {} }: { name?: string; options?: LockOptions }) {
  renders += 1;
  price = useLock(name, "price", options);
  return <p>{price.state}</p>;
}

const answers: boolean[] = [];
function Field() {
  const { lock, state } = useLock("room:7", "price");
  // biome-ignore lint/a11y/noAutofocus: the focus comes before any effect
  return <input autoFocus aria-label={state} onFocus={async () => answers.push(await lock())} />;
}

const calls = new Set<Call>();
function Caller() {
  calls.add(useCall());
  return null;
}

/** Keeps the channel open. */
function Reader() {
  useChannel("room:7");
  return null;
}

describe("usePresence", () => {
  it("makes the user present, shows who is there, and who comes and goes", async () => {
    const all = world();
    all.server.others.set("room:7", [{ userId: "bob", connections: 1, info: {} }]);
    const { container } = await render(<StrictMode>{all.provide(<Present info={{ name: "Alice" }} />)}</StrictMode>);
    expect(presence).toMatchObject({ count: 2, hasMore: false, error: undefined });
    expect(container.textContent).toBe("alice bob");
    const at = all.server.timestamp(60_000);
    await during(() => all.server.tell("joined", { channel: "room:7", userId: "carol", info: {}, count: 3, at }));
    expect(container.textContent).toBe("alice bob carol");
    await during(() => all.server.tell("left", { channel: "room:7", userId: "bob", count: 2, at }));
    expect(container.textContent).toBe("alice carol");
  });

  it("needs no information, and tells changed information once", async () => {
    const all = world();
    const present = () => all.server.socket.present.get("room:7");
    const { rerender } = await render(all.provide(<Present />));
    expect(present()).toEqual({});
    const before = all.server.socket.received.length;
    await rerender(all.provide(<Present info={{ typing: true }} />));
    expect(present()).toEqual({ typing: true });
    await rerender(all.provide(<Present info={{ typing: true }} />));
    expect(all.server.socket.received.length).toBe(before + 1);
  });

  it("tells the information of all components together, and ends with the last of them", async () => {
    const all = world();
    const present = () => all.server.socket.present.get("room:7");
    const { rerender } = await render(
      all.provide([
        <Reader key="r" />,
        <Present key="a" info={{ name: "Alice" }} />,
        <Present key="b" info={{ typing: true }} />,
      ]),
    );
    expect(present()).toEqual({ name: "Alice", typing: true });
    await rerender(all.provide([<Reader key="r" />, <Present key="a" info={{ name: "Alice" }} />]));
    expect(present()).toEqual({ name: "Alice" });
    await rerender(all.provide([<Reader key="r" />]));
    expect(present()).toBeUndefined();
    expect(all.server.socket.of("unsubscribe")).toEqual([]);
  });

  it("ends with the last component of the channel", async () => {
    const all = world();
    const { rerender } = await render(all.provide(<Present info={{ name: "Alice" }} />));
    expect(all.server.socket.subscribed).toContain("room:7");
    await rerender(all.provide(null));
    expect(all.server.socket.subscribed).not.toContain("room:7");
  });

  it("leaves the application's own presence alone", async () => {
    const all = world();
    const parts = { presence: presencePart, environment: all.environment };
    const client = new Belfry({ url: "wss://api.example.com/dev", token: all.token, ...parts });
    const present = () => all.server.socket.present.get("room:7");
    client.channel("room:7", { presence: { name: "Alice" } });
    const { unmount } = await render(all.provide(<Reader />, { client }));
    expect(present()).toEqual({ name: "Alice" });
    await unmount();
    await during(() => {});
    expect(present()).toEqual({ name: "Alice" });
    client.close();
  });

  it("is refused by a client without presence", async () => {
    const all = world();
    const client = new Belfry({ url: "wss://api.example.com/dev", token: all.token, environment: all.environment });
    const { unmount } = await render(all.provide([<Reader key="r" />, <Present key="p" />], { client }));
    expect(presence.error).toMatchObject({ code: "INVALID_MESSAGE", message: expect.stringContaining("presence") });
    await all.cut();
    expect(presence.error?.code).toBe("INVALID_MESSAGE");
    await unmount();
    client.close();
  });

  it("says why it is refused, and shows nobody without a name", async () => {
    const all = world();
    all.server.forbidden.add("room:7");
    const { rerender } = await render(all.provide(<Present />));
    expect(presence).toMatchObject({ count: 0, error: { code: "FORBIDDEN" } });
    await rerender(all.provide(<Present name={null} />));
    expect(presence).toEqual({ members: [], count: 0, hasMore: false, error: undefined });
  });
});

describe("useLock", () => {
  const lock = () => during(() => price.lock());

  /** Tells the client what another user does with the lock. */
  function told(all: World, holder?: { userId: string }) {
    const until = holder && all.server.timestamp(30_000);
    const data = { channel: "room:7", name: "price", fencing: 500, ...(holder && { holder, until }) };
    return during(() => all.server.socket.send({ type: "lock.changed", version: "1.0", data } as never));
  }

  it("locks, renews and unlocks", async () => {
    const all = world();
    await render(<StrictMode>{all.provide(<Price options={{ seconds: 5 }} />)}</StrictMode>);
    expect(price.state).toBe("free");
    await lock();
    expect(price).toMatchObject({ state: "held", fencing: 101 });
    expect(price.holder).toBeUndefined();
    await during(() => all.environment.advance(60_000));
    expect(price.state).toBe("held");
    await during(() => price.unlock());
    expect(price.state).toBe("free");
    expect(all.server.locks.size).toBe(0);
  });

  it("is got by the field that has the focus from the start", async () => {
    const all = world();
    const { container, rerender, unmount } = await render(<StrictMode>{all.provide(<Field />)}</StrictMode>);
    expect(answers).toEqual([true]);
    expect(container.querySelector("input")?.getAttribute("aria-label")).toBe("held");
    await rerender(<StrictMode>{all.provide(null)}</StrictMode>);
    expect(all.server.locks.size).toBe(0);
    await unmount();
    expect(all.isQuiet).toBe(true);
  });

  it("is refused in what is no channel, by a client without locks, and when the provider is gone", async () => {
    const all = world();
    const { rerender, unmount } = await render(all.provide(<Price name="not a name" />));
    await during(async () => expect(await price.lock()).toBe(false));
    expect(price).toMatchObject({ state: "free", error: { code: "INVALID_MESSAGE" } });
    const client = new Belfry({ url: "wss://api.example.com/dev", token: all.token, environment: all.environment });
    await rerender(all.provide(<Price name="room:7" />, { client }));
    await during(async () => expect(await price.lock()).toBe(false));
    expect(price.error).toBeInstanceOf(BelfryError);
    await unmount();
    client.close();
    expect(await price.lock()).toBe(false);
  });

  it("shows that it asks", async () => {
    const all = world();
    await render(all.provide(<Price />));
    all.server.intercept = ({ type }) => type === "lock";
    await during(() => void price.lock());
    expect(price.state).toBe("asking");
  });

  it("shows who else holds it, and does not get it", async () => {
    const all = world();
    all.server.hold("room:7", "price", "bob", 30);
    await render(all.provide(<Price />));
    expect(price).toMatchObject({ state: "taken", holder: { userId: "bob" }, error: undefined });
    await during(async () => expect(await price.lock()).toBe(false));
    expect(price).toMatchObject({ state: "taken", error: { code: "LOCKED" } });
  });

  it("follows what others do, and renders for nothing else", async () => {
    const all = world();
    await render(all.provide(<Price />));
    await told(all, { userId: "bob" });
    expect(price).toMatchObject({ state: "taken", holder: { userId: "bob" } });
    const before = renders;
    await all.publish("room:7", "a message");
    await during(() => all.server.socket.end());
    expect(renders).toBe(before);
    await during(() => all.environment.advance(1_000));
    await told(all);
    expect(price.state).toBe("free");
  });

  it("is lost if somebody else has it after a cut", async () => {
    const all = world();
    await render(all.provide(<Price />));
    await lock();
    await during(() => all.server.socket.end());
    all.server.hold("room:7", "price", "bob", 300);
    await during(() => all.environment.advance(60_000));
    expect(price).toMatchObject({ error: { code: "LOCKED" } });
    expect(price.state).not.toBe("held");
  });

  it("has a new number after a cut", async () => {
    const all = world();
    await render(all.provide(<Price />));
    await lock();
    await during(() => all.server.socket.end());
    await during(() => all.environment.advance(5_000));
    expect(price).toMatchObject({ state: "held", fencing: 102 });
  });

  it("is shared by components, and released when the last one is gone", async () => {
    const all = world();
    const reader = <Price key="a" />;
    const { container, rerender, unmount } = await render(all.provide([reader, <Price key="b" />]));
    await lock();
    expect(container.textContent).toBe("heldheld");
    await rerender(all.provide([reader]));
    expect(all.server.locks.size).toBe(1);
    await rerender(all.provide(null));
    expect(all.server.locks.size).toBe(0);
    await unmount();
    expect(all.isQuiet).toBe(true);
  });

  it("is asked for again if it is wanted again while it is being released", async () => {
    const all = world();
    await render(all.provide(<Price />));
    const answers: Array<() => void> = [];
    all.server.intercept = (frame, socket) => {
      if (frame.type !== "lock" && frame.type !== "unlock") return false;
      answers.push(() => all.server.answer(frame, socket));
      return true;
    };
    await during(() => void price.lock());
    await during(() => price.unlock());
    await during(() => answers.shift()?.());
    let isMine: boolean | undefined;
    await during(
      () =>
        void price.lock().then((answer) => {
          isMine = answer;
        }),
    );
    while (answers.length > 0) await during(() => answers.shift()?.());
    expect(isMine).toBe(true);
    expect(price.state).toBe("held");
  });

  it("is released if the component is gone before the server has answered", async () => {
    const all = world();
    const { rerender } = await render(all.provide([<Reader key="r" />, <Price key="p" />]));
    let answer = () => {};
    all.server.intercept = (frame, socket) => {
      if (frame.type !== "lock") return false;
      answer = () => all.server.answer(frame, socket);
      return true;
    };
    await during(() => void price.lock());
    await rerender(all.provide([<Reader key="r" />]));
    await during(() => answer());
    expect(all.server.locks.size).toBe(0);
  });
});

describe("useCall", () => {
  it("calls the application, and stays the same function", async () => {
    const all = world();
    const { rerender, unmount } = await render(all.provide(<Caller />));
    await rerender(all.provide(<Caller />));
    const [call, ...others] = calls;
    expect(others).toEqual([]);
    await during(async () => expect(await call?.("quote.edit", { id: "q-1" })).toEqual({ ok: true }));
    await unmount();
    await expect(call?.("quote.edit")).rejects.toMatchObject({ code: "CLOSED" });
  });
});
