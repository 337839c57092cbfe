import { useEffect } from "react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { NotificationToast, type NotificationToastProps, useWebSocket } from "../../src/index.js";
import { click, findings, focus, point, pointAndClick, press } from "../support/page-actions.js";
import { cleanUp, during, render } from "../support/render.js";
import { World } from "../support/world.js";

// The toasts' own timers. What lets promises settle stays real.
beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] }));
afterEach(async () => {
  await cleanUp();
  vi.useRealTimers();
});

let socket: ReturnType<typeof useWebSocket>;
function Page(props: NotificationToastProps) {
  socket = useWebSocket();
  return (
    <>
      <button type="button">Elsewhere</button>
      <NotificationToast {...props} />
    </>
  );
}

/** Brings a third notification between a render and the effects of the toasts. */
function Third({ world }: { world: World }) {
  const { notifications } = useWebSocket();
  useEffect(() => {
    const data = { kind: "system.announcement", text: "three" };
    if (notifications.length === 2) world.server.post({ type: "notification", version: "1.0", id: "3", data } as never);
  });
  return null;
}

async function page(props: NotificationToastProps = {}) {
  const world = new World();
  const rendered = await render(world.provide(<Page {...props} />));
  return { ...world, ...rendered, show: (text: string) => world.notify({ kind: "system.announcement", text }) };
}

const toasts = (within = "") => [...document.querySelectorAll(`${within} .belfry-toast .belfry-title`)];
const texts = (within?: string) => toasts(within).map(({ textContent }) => textContent);
const region = () => document.querySelector(".belfry-toasts");
const button = (index: number) => document.querySelectorAll(".belfry-toast button")[index];
const pass = (ms: number) => during(() => vi.advanceTimersByTime(ms));

describe("a toast", () => {
  it("comes with a new notification, and goes by itself", async () => {
    const { show } = await page();
    await show("one");
    expect(texts()).toEqual(["one"]);
    await pass(5_999);
    expect(texts()).toEqual(["one"]);
    await pass(1);
    expect(texts()).toEqual([]);
    expect(socket.unread).toBe(1);
  });

  it("takes no focus", async () => {
    const { show } = await page();
    const elsewhere = document.querySelector("button");
    await focus(elsewhere);
    await show("one");
    expect(document.activeElement).toBe(elsewhere);
  });

  it("is announced in a region that was there before: politely, or at once if it is urgent", async () => {
    const world = new World();
    await render(world.provide(<Page max={4} />));
    expect(region()?.querySelectorAll('[role="status"], [role="alert"]').length).toBe(2);
    await world.notify({ kind: "upload.completed", file: "report.pdf" });
    await world.notify({ kind: "system.alert", text: "The disk is full" });
    await world.notify({ kind: "system.announcement", level: "critical", text: "Leave the building" });
    await world.notify({ kind: "threat.detected", severity: "high" });
    expect(texts('[role="status"]')).toEqual(["Upload completed"]);
    expect(texts('[role="alert"]')).toEqual(["threat.detected", "Leave the building", "The disk is full"]);
    // Axe has timers of its own.
    vi.useRealTimers();
    expect(await findings()).toEqual([]);
  });

  it("that is urgent stays until it is dismissed", async () => {
    const world = new World();
    await render(world.provide(<Page />));
    await world.notify({ kind: "system.alert", text: "The disk is full" });
    await pass(600_000);
    expect(texts()).toEqual(["The disk is full"]);
    await click(button(0));
    expect(texts()).toEqual([]);
    expect(socket.unread).toBe(0);
  });

  it("that is urgent is pushed out by none that is not", async () => {
    const world = new World();
    await render(world.provide(<Page max={2} />));
    await world.notify({ kind: "system.alert", text: "The disk is full" });
    for (const text of ["one", "two", "three"]) await world.notify({ kind: "system.announcement", text });
    expect(texts()).toEqual(["The disk is full", "three"]);
    for (const text of ["The disk is still full", "The roof is on fire"])
      await world.notify({ kind: "system.alert", text });
    expect(texts()).toEqual(["The roof is on fire", "The disk is still full", "The disk is full"]);
  });

  it("that comes while older ones are pushed out is shown", async () => {
    const world = new World();
    const both = (
      <>
        <Third world={world} />
        <Page max={1} />
      </>
    );
    await render(world.provide(both));
    for (const text of ["one", "two"]) await world.notify({ kind: "system.announcement", text });
    expect(texts()).toEqual(["three"]);
  });

  it("has a button that names it", async () => {
    const { show } = await page();
    await show("one");
    expect(button(0)?.getAttribute("aria-label")).toBe("Dismiss: one");
  });

  it.each(["focus", "pointer"])(
    "that had the %s and was removed elsewhere does not stop the time of others",
    async (what) => {
      const { show } = await page({ durationMs: 1_000 });
      for (const text of ["one", "two"]) await show(text);
      if (what === "focus") await focus(button(0));
      else await point("mousemove", button(0));
      await during(() => socket.dismiss("n2"));
      await pass(1_000);
      expect(texts()).toEqual([]);
    },
  );

  it("makes room for newer ones, and does not come back", async () => {
    const { show } = await page({ max: 2 });
    for (const text of ["one", "two", "three"]) await show(text);
    expect(texts()).toEqual(["three", "two"]);
    await click(button(0));
    expect(texts()).toEqual(["two"]);
  });

  it("stays while the pointer is on it", async () => {
    const { show } = await page({ durationMs: 1_000, max: 1 });
    await show("one");
    await point("mousemove", region());
    await show("two");
    await pass(60_000);
    expect(texts()).toEqual(["two", "one"]);
    await point("mouseout", region());
    expect(texts()).toEqual(["two"]);
    await pass(1_000);
    expect(texts()).toEqual([]);
  });

  it("that a pointer dismisses stops no other one's time", async () => {
    const { show } = await page({ durationMs: 1_000 });
    const elsewhere = document.querySelector("button");
    for (const text of ["one", "two"]) await show(text);
    await focus(elsewhere);
    await point("mousemove", button(0));
    await pointAndClick(button(0));
    expect(texts()).toEqual(["one"]);
    expect(document.activeElement).toBe(elsewhere);
    await pass(1_000);
    expect(texts()).toEqual([]);
  });

  it("stays while it has the focus, and gives the focus back", async () => {
    const { show } = await page({ durationMs: 1_000 });
    const elsewhere = document.querySelector("button");
    for (const text of ["one", "two"]) await show(text);
    await focus(elsewhere);
    await focus(button(0));
    await pass(60_000);
    expect(texts()).toEqual(["two", "one"]);
    await press("Escape");
    expect(texts()).toEqual(["one"]);
    expect(document.activeElement).toBe(button(0));
    await press("Escape");
    expect(texts()).toEqual([]);
    expect(document.activeElement).toBe(elsewhere);
    await show("three");
    await pass(1_000);
    expect(texts()).toEqual([]);
  });

  it("does not stand still after it was removed with the focus on it", async () => {
    const { show } = await page({ durationMs: 1_000 });
    await show("one");
    await focus(button(0));
    await press("Escape");
    await show("two");
    await pass(1_000);
    expect(texts()).toEqual([]);
  });

  it("goes when its notification is read or removed elsewhere", async () => {
    const { show } = await page();
    for (const text of ["one", "two"]) await show(text);
    await during(() => socket.markRead("n1"));
    expect(texts()).toEqual(["two"]);
    await during(() => socket.clear());
    expect(texts()).toEqual([]);
  });

  it("looks as the application wants", async () => {
    const { container, show } = await page({
      render: ({ kind }) => <b>{kind}</b>,
      labels: { dismiss: ({ kind }) => `Weg: ${kind}` },
    });
    await show("one");
    expect(container.querySelector(".belfry-body")?.innerHTML).toBe("<b>system.announcement</b>");
    expect(button(0)?.getAttribute("aria-label")).toBe("Weg: system.announcement");
  });

  it("leaves no timer behind", async () => {
    const { show, unmount } = await page();
    await show("one");
    await unmount();
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe("the text of a notification", () => {
  it.each([
    [{ kind: "upload.completed", file: "a.png" }, "Upload completed a.png"],
    [{ kind: "upload.finalized", file: "a.png" }, "File ready a.png"],
    [{ kind: "set.created", setId: "s-1", name: "Summer" }, "Set created Summer"],
    [{ kind: "set.created", setId: "s-1" }, "Set created s-1"],
    [{ kind: "system.announcement", text: "Hello" }, "Hello"],
    [{ kind: "quote.ready", title: "Quote", message: "It is ready" }, "Quote It is ready"],
    [{ kind: "quote.ready" }, "quote.ready"],
    [{ kind: "constructor" }, "constructor"],
    [{ kind: "__proto__", text: { toString: 1 }, title: [] }, "__proto__"],
    [{ kind: "x", text: "<img src=x onerror=alert(1)>" }, "<img src=x onerror=alert(1)>"],
  ])("%j is %s", async (data, expected) => {
    const world = new World();
    await render(world.provide(<Page />));
    // A sender that is newer than the page, or hostile, sends what the schema does not know.
    await world.notify(data);
    const parts = [...document.querySelectorAll(".belfry-title, .belfry-detail")];
    expect(parts.map(({ textContent }) => textContent).join(" ")).toBe(expected);
    expect(document.querySelector("img")).toBe(null);
  });
});
