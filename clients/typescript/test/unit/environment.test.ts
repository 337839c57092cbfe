import { afterEach, describe, expect, it, vi } from "vitest";
import { defaultEnvironment } from "../../src/environment.js";

afterEach(() => vi.unstubAllGlobals());

/** Gives the runtime what a page has. */
function openPage() {
  const page = new EventTarget();
  const document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  vi.stubGlobal("document", document);
  vi.stubGlobal("addEventListener", page.addEventListener.bind(page));
  vi.stubGlobal("removeEventListener", page.removeEventListener.bind(page));
  let wakes = 0;
  const stop = defaultEnvironment().onWake(() => {
    wakes += 1;
  });
  return { page, document, stop, wakes: () => wakes };
}

describe("a page", () => {
  it("wakes the client when it becomes visible, and not when it is hidden", () => {
    const { document, wakes } = openPage();
    document.visibilityState = "hidden";
    document.dispatchEvent(new Event("visibilitychange"));
    expect(wakes()).toBe(0);
    document.visibilityState = "visible";
    document.dispatchEvent(new Event("visibilitychange"));
    expect(wakes()).toBe(1);
  });

  it.each(["online", "offline"])("wakes the client at %s", (event) => {
    const { page, wakes } = openPage();
    page.dispatchEvent(new Event(event));
    expect(wakes()).toBe(1);
  });

  it("wakes the client when it is restored, and not when it is loaded", () => {
    const { page, wakes } = openPage();
    page.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: false }));
    expect(wakes()).toBe(0);
    page.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
    expect(wakes()).toBe(1);
  });

  it("is left alone afterwards", () => {
    const { page, document, stop, wakes } = openPage();
    stop();
    document.dispatchEvent(new Event("visibilitychange"));
    page.dispatchEvent(new Event("online"));
    page.dispatchEvent(new Event("offline"));
    page.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
    expect(wakes()).toBe(0);
  });

  it("knows whether there is a network", () => {
    vi.stubGlobal("navigator", { onLine: false });
    expect(defaultEnvironment().isOnline()).toBe(false);
    vi.stubGlobal("navigator", undefined);
    expect(defaultEnvironment().isOnline()).toBe(true);
  });
});

describe("a runtime without pages", () => {
  it("never wakes the client, and has ids, time and chance", async () => {
    const environment = defaultEnvironment();
    environment.onWake(() => expect.unreachable())();
    expect(environment.randomId()).toMatch(/^[0-9a-f]{32}$/);
    expect(environment.randomId()).not.toBe(environment.randomId());
    expect(environment.random()).toBeLessThan(1);
    const before = environment.now();
    await new Promise<void>((resolve) => environment.setTimeout(resolve, 1));
    expect(environment.now()).toBeGreaterThanOrEqual(before);
    const timer = environment.setTimeout(() => expect.unreachable(), 1);
    environment.clearTimeout(timer);
  });
});
