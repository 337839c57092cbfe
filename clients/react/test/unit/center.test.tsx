import { afterEach, describe, expect, it } from "vitest";
import { NotificationCenter, type NotificationCenterProps } from "../../src/index.js";
import { click, findings, focus, press } from "../support/page-actions.js";
import { cleanUp, during, render } from "../support/render.js";
import { World } from "../support/world.js";

afterEach(cleanUp);

/** A page whose centre has these notifications, the last one first. */
async function page(texts: string[], props: NotificationCenterProps = {}) {
  const world = new World();
  const rendered = await render(world.provide(<NotificationCenter {...props} />));
  const show = (text: string) => world.notify({ kind: "system.announcement", text }, text);
  for (const text of texts) await show(text);
  return { ...rendered, show, world };
}

const button = () => document.querySelector<HTMLElement>("[aria-expanded]");
const panel = () => document.getElementById(button()?.getAttribute("aria-controls") ?? "");
const entries = () => [...document.querySelectorAll<HTMLElement>(".belfry-entry")];
const titles = () => entries().map((entry) => entry.querySelector(".belfry-title")?.textContent);
const focused = () => document.activeElement?.querySelector(".belfry-title")?.textContent;
const action = (name: string) => [...document.querySelectorAll("button")].find((one) => one.textContent === name);

describe("the button", () => {
  it("says how many notifications are unread, and opens the list that it controls", async () => {
    const { show } = await page(["one"]);
    expect(button()?.getAttribute("aria-label")).toBe("Notifications, 1 unread");
    expect(button()?.getAttribute("aria-expanded")).toBe("false");
    expect(panel()?.hidden).toBe(true);
    await show("two");
    expect(button()?.textContent).toBe("2");
    expect(await findings()).toEqual([]);
    await click(button());
    expect(button()?.getAttribute("aria-expanded")).toBe("true");
    expect(panel()?.hidden).toBe(false);
    expect(titles()).toEqual(["two", "one"]);
    expect(await findings()).toEqual([]);
    await click(button());
    expect(panel()?.hidden).toBe(true);
  });

  it("says nothing of unread ones if there are none", async () => {
    await page([]);
    expect(button()?.getAttribute("aria-label")).toBe("Notifications");
    await click(button());
    expect(panel()?.textContent).toBe("No notifications");
    expect(await findings()).toEqual([]);
  });
});

describe("the keyboard", () => {
  it("moves in the list, which takes one stop of the Tab key", async () => {
    await page(["one", "two", "three"]);
    await click(button());
    await press("ArrowDown");
    expect(focused()).toBe("three");
    await press("ArrowDown");
    expect(focused()).toBe("two");
    expect(entries().map(({ tabIndex }) => tabIndex)).toEqual([-1, 0, -1]);
    await press("End");
    await press("ArrowDown");
    expect(focused()).toBe("one");
    await press("Home");
    await press("ArrowUp");
    expect(focused()).toBe("three");
  });

  it("closes the list with Escape, and goes back to the button", async () => {
    await page(["one"]);
    await click(button());
    await press("ArrowDown");
    await press("Escape");
    expect(panel()?.hidden).toBe(true);
    expect(document.activeElement).toBe(button());
  });

  it("is left alone while the list is closed", async () => {
    await page(["one"]);
    await focus(button());
    const key = new KeyboardEvent("keydown", { key: "Escape", bubbles: true, cancelable: true });
    await during(() => button()?.dispatchEvent(key));
    expect(key.defaultPrevented).toBe(false);
  });

  it("keeps its place when a notification comes, and when one is removed", async () => {
    const { show } = await page(["one", "two", "three"]);
    await click(button());
    await press("ArrowDown");
    await press("ArrowDown");
    await show("four");
    expect(focused()).toBe("two");
    await press("Delete");
    expect(titles()).toEqual(["four", "three", "one"]);
    expect(focused()).toBe("one");
    await press("Delete");
    expect(focused()).toBe("three");
    await press("Delete");
    await press("Delete");
    expect(titles()).toEqual([]);
    expect(document.activeElement).toBe(button());
  });
});

describe("the list", () => {
  it("marks what is chosen, or everything, as read", async () => {
    const chosen: string[] = [];
    await page(["one", "two", "three"], { onSelect: ({ id }) => chosen.push(id) });
    await click(button());
    expect(entries()[1]?.textContent).toContain("Unread");
    await click(entries()[1]);
    expect(chosen).toEqual(["two"]);
    expect(entries()[1]?.textContent).not.toContain("Unread");
    expect(button()?.getAttribute("aria-label")).toBe("Notifications, 2 unread");
    await click(action("Mark all as read"));
    expect(button()?.getAttribute("aria-label")).toBe("Notifications");
    expect(titles().length).toBe(3);
  });

  it("removes one, or all, and keeps the focus", async () => {
    await page(["one", "two", "three"]);
    await click(button());
    await click(document.querySelector('[aria-label="Dismiss: three"]'));
    expect(titles()).toEqual(["two", "one"]);
    expect(focused()).toBe("two");
    await click(action("Clear"));
    expect(panel()?.textContent).toBe("No notifications");
    expect(document.activeElement).toBe(button());
  });

  it("says that notifications were lost, until it is cleared", async () => {
    const { world } = await page([]);
    const status = document.querySelector('[role="status"]');
    expect(status?.textContent).toBe("");
    world.server.log("@me").append("one");
    await world.cut();
    world.server.log("@me").restart("e2");
    world.server.log("@me").append("two");
    await world.cut();
    expect(status?.textContent).toBe("Some notifications may be missing");
    await click(button());
    expect(panel()?.textContent).toContain("Some notifications may be missing");
    expect(await findings()).toEqual([]);
    await click(action("Clear"));
    expect(status?.textContent).toBe("");
    expect(panel()?.textContent).toBe("No notifications");
  });

  it("closes when the focus leaves it", async () => {
    const { container } = await page(["one"]);
    const elsewhere = document.createElement("button");
    container.append(elsewhere);
    await click(button());
    await focus(entries()[0]);
    expect(panel()?.hidden).toBe(false);
    await focus(elsewhere);
    expect(panel()?.hidden).toBe(true);
    expect(document.activeElement).toBe(elsewhere);
  });

  it("closes when the user presses elsewhere, and not inside", async () => {
    await page(["one"]);
    await click(button());
    const pressOn = (target: Element | null) =>
      during(() => target?.dispatchEvent(new Event("pointerdown", { bubbles: true })));
    await pressOn(panel());
    expect(panel()?.hidden).toBe(false);
    await pressOn(document.body);
    expect(panel()?.hidden).toBe(true);
  });

  it("looks as the application wants", async () => {
    const labels = { button: (unread: number) => `${unread} neue`, empty: "Nichts" };
    await page(["one"], { render: ({ id }) => <b>{id}</b>, labels });
    expect(button()?.getAttribute("aria-label")).toBe("1 neue");
    await click(button());
    expect(entries()[0]?.querySelector("b")?.textContent).toBe("one");
  });
});
