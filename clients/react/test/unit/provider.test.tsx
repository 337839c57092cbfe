import { Belfry } from "@belfry/client";
import { StrictMode, useState } from "react";
import { afterEach, describe, expect, it } from "vitest";
import { useNotification, useStatus, useWebSocket, type WebSocketState } from "../../src/index.js";
import { cleanUp, during, render } from "../support/render.js";
import { World } from "../support/world.js";

afterEach(cleanUp);

let seen: WebSocketState;
const userOf = ({ status }: WebSocketState) => status.state === "connected" && status.userId;
function Probe() {
  seen = useWebSocket();
  return <p>{seen.status.state}</p>;
}

describe("the provider", () => {
  it("connects when it is mounted, and leaves nothing behind when it is unmounted", async () => {
    const world = new World();
    const { container, unmount } = await render(world.provide(<Probe />));
    expect(container.textContent).toBe("connected");
    expect(world.server.open.length).toBe(1);
    await unmount();
    expect(world.isQuiet).toBe(true);
  });

  it("opens one socket and asks for one token in StrictMode", async () => {
    const world = new World();
    const { container, unmount } = await render(<StrictMode>{world.provide(<Probe />)}</StrictMode>);
    expect(container.textContent).toBe("connected");
    expect(world.server.sockets.length).toBe(1);
    expect(world.reasons).toEqual(["connect"]);
    await unmount();
    expect(world.isQuiet).toBe(true);
  });

  it("takes another token function without connecting again", async () => {
    const world = new World();
    const { rerender } = await render(world.provide(<Probe />));
    await rerender(world.provide(<Probe />, { token: () => "newer" }));
    expect(world.server.sockets.length).toBe(1);
    await world.cut();
    expect(world.server.socket.protocols).toContain("bearer.newer");
  });

  it("connects to another URL with another client", async () => {
    const world = new World();
    const { rerender } = await render(world.provide(<Probe />));
    const before = seen.client;
    await rerender(world.provide(<Probe />, { url: new URL("wss://other.example.com/dev") }));
    expect(world.server.open.map(({ url }) => url)).toEqual(["wss://other.example.com/dev"]);
    expect(seen.client).not.toBe(before);
    expect(before?.status.state).toBe("closed");
  });

  it("uses a client that was made elsewhere, and leaves it open", async () => {
    const world = new World();
    const client = new Belfry({ url: "wss://api.example.com/dev", token: world.token, environment: world.environment });
    let listeners = 0;
    const on = client.on.bind(client) as (name: string, listener: (value: never) => void) => () => void;
    client.on = (name: string, listener: (value: never) => void) => {
      listeners += 1;
      const stop = on(name, listener);
      return () => {
        listeners -= 1;
        stop();
      };
    };
    const { container, unmount } = await render(world.provide(<Probe />, { client }));
    expect(container.textContent).toBe("connected");
    expect(seen.client).toBe(client);
    await unmount();
    expect(client.status.state).toBe("connected");
    expect(listeners).toBe(0);
    client.close();
    expect(world.isQuiet).toBe(true);
  });

  it("reports a lost connection, a closed one, and the next", async () => {
    const world = new World();
    const { container } = await render(world.provide(<Probe />));
    await during(() => world.server.socket.end());
    expect(container.textContent).toBe("reconnecting");
    await during(() => world.environment.advance(60_000));
    expect(container.textContent).toBe("connected");
    await during(() => seen.close());
    expect(container.textContent).toBe("closed");
    await during(() => seen.connect());
    expect(container.textContent).toBe("connected");
  });
});

const heard: string[] = [];
let rename: (name: string) => void = () => {};
function Listener() {
  const [name, setName] = useState("first");
  rename = setName;
  useNotification("upload.completed", ({ data }) => heard.push(`${name}: ${data.file}`));
  return null;
}

let renders = 0;
function StatusAlone() {
  renders += 1;
  return <p>{useStatus().state}</p>;
}

describe("notifications", () => {
  const announce = (text: string) => ({ kind: "system.announcement", text });

  it("are listed newest first, each once, and at most so many", async () => {
    const world = new World();
    const heard: unknown[] = [];
    const onNotification = ({ id }: { id: string | undefined }) => heard.push(id);
    await render(world.provide(<Probe />, { limit: 2, onNotification }));
    world.server.log("@me");
    // The client takes two positions for two messages. A list has keys, so each id may come once.
    for (const [index, id] of ["a", "b", "b", "c"].entries()) {
      const position = { epoch: "e1", seq: index + 1 };
      const frame = { type: "notification", version: "1.0", id, channel: "@me", position, data: announce(id) };
      await during(() => world.server.post(frame as never));
    }
    expect(seen.notifications.map(({ id }) => id)).toEqual(["c", "b"]);
    expect(heard).toEqual(["a", "b", "c"]);
  });

  it("are unread until they are marked, dismissed or cleared", async () => {
    const world = new World();
    await render(world.provide(<Probe />));
    for (const id of ["a", "b", "c", "d"]) await world.notify(announce(id), id);
    expect(seen.unread).toBe(4);
    await during(() => seen.markRead("b"));
    expect(seen.notifications.filter(({ isRead }) => isRead).map(({ id }) => id)).toEqual(["b"]);
    await during(() => seen.dismiss("c"));
    expect(seen.unread).toBe(2);
    await during(() => seen.markRead());
    expect(seen.unread).toBe(0);
    await during(() => seen.clear());
    expect(seen.notifications).toEqual([]);
  });

  it("do not come back after they were dismissed", async () => {
    const world = new World();
    await render(world.provide(<Probe />));
    await world.notify(announce("a"), "a");
    await during(() => seen.dismiss("a"));
    await world.cut();
    await world.notify(announce("a"), "a");
    expect(seen.notifications).toEqual([]);
  });

  it("are not for the next user, unless they are for everyone", async () => {
    const world = new World();
    world.server.log("@all");
    await render(world.provide(<Probe />));
    await world.notify({ kind: "upload.completed", file: "secret.pdf" });
    await during(() => {
      const { position } = world.server.log("@all").append("for all");
      const data = announce("for all");
      world.server.post({ type: "notification", version: "1.0", id: "all", channel: "@all", position, data } as never);
    });
    expect(seen.notifications.length).toBe(2);
    world.server.userId = "bob";
    await world.cut();
    expect(seen.notifications.map(({ id }) => id)).toEqual(["all"]);
  });

  it("of the next user are shown, also those that come before the first answer", async () => {
    const world = new World();
    const users: unknown[] = [];
    const onNotification = ({ id }: { id: string | undefined }) =>
      users.push(`${id} ${userOf({ ...seen, status: seen.client?.status ?? seen.status })}`);
    await render(world.provide(<Probe />, { onNotification }));
    const notification = (text: string) =>
      ({ type: "notification", version: "1.0", id: "same", channel: "@me", data: announce(text) }) as never;
    await during(() => world.server.post(notification("for alice")));
    world.server.userId = "bob";
    world.server.intercept = (frame, socket) => {
      if (frame.type === "hello") socket.send(notification("for bob"));
      return false;
    };
    await world.cut();
    expect(seen.notifications.map(({ data }) => (data as { text: string }).text)).toEqual(["for bob"]);
    expect(users).toEqual(["same alice", "same bob"]);
  });

  it("of two senders may have the same id", async () => {
    const world = new World();
    await render(world.provide(<Probe />));
    for (const channel of ["@me", "@all", "@me"]) {
      const notification = { type: "notification", version: "1.0", id: "a", channel, data: announce(channel) };
      await during(() => world.server.post(notification as never));
    }
    expect(seen.notifications.map(({ channel }) => channel)).toEqual(["@all", "@me"]);
    expect(new Set(seen.notifications.map(({ id }) => id)).size).toBe(2);
    await during(() => seen.dismiss(seen.notifications[0]?.id ?? ""));
    expect(seen.notifications.map(({ channel }) => channel)).toEqual(["@me"]);
  });

  it("that are lost are told, until the list is cleared or another user comes", async () => {
    const world = new World();
    for (const channel of ["@me", "@all"]) world.server.log(channel).append("text");
    const losses: string[] = [];
    await render(world.provide(<Probe />, { onLost: ({ channel, reason }) => losses.push(`${channel} ${reason}`) }));
    const lose = async (epoch: string) => {
      world.server.log("@me").restart(epoch);
      world.server.log("@me").append("text");
      await world.cut();
      expect(seen.lost).toMatchObject({ channel: "@me", reason: "epoch" });
    };
    await lose("e2");
    await during(() => seen.clear());
    expect(seen.lost).toBe(null);
    await lose("e3");
    world.server.userId = "bob";
    await world.cut();
    expect(seen.lost).toBe(null);
    expect(losses.filter((loss) => loss === "@me epoch").length).toBe(2);
  });

  it("of one kind reach the newest listener", async () => {
    const world = new World();
    await render(world.provide(<Listener />));
    await world.notify({ kind: "upload.completed", file: "1.png" });
    await world.notify({ kind: "set.created", setId: "s" });
    await during(() => rename("second"));
    await world.notify({ kind: "upload.completed", file: "2.png" });
    expect(heard).toEqual(["first: 1.png", "second: 2.png"]);
  });

  it("do not render anew what shows the status alone", async () => {
    const world = new World();
    await render(world.provide(<StatusAlone />));
    const before = renders;
    for (let i = 0; i < 10; i += 1) await world.notify(announce(`${i}`));
    expect(renders).toBe(before);
  });
});
