import { afterEach, expect, it } from "vitest";
import { ConnectionStatusIndicator, useWebSocket } from "../../src/index.js";
import { click, findings } from "../support/page-actions.js";
import { cleanUp, during, render } from "../support/render.js";
import { World } from "../support/world.js";

afterEach(cleanUp);

let socket: ReturnType<typeof useWebSocket>;
function Page() {
  socket = useWebSocket();
  return <ConnectionStatusIndicator />;
}

const status = () => document.querySelector('[role="status"]');
const tone = () => document.querySelector(".belfry-status")?.getAttribute("data-tone");

it("says the state in words, with a shape and a colour, to everyone", async () => {
  const world = new World();
  world.server.accepts = false;
  await render(world.provide(<Page />));
  expect([status()?.textContent, tone()]).toEqual(["Connecting", "waiting"]);
  const waiting = status()?.querySelector("svg path")?.getAttribute("d");
  world.server.accepts = true;
  await during(() => world.server.socket.accept());
  expect([status()?.textContent, tone()]).toEqual(["Connected", "good"]);
  expect(status()?.querySelector("svg path")?.getAttribute("d")).not.toBe(waiting);
  expect(status()?.querySelector("svg")?.getAttribute("aria-hidden")).toBe("true");
  await during(() => world.server.socket.end());
  expect([status()?.textContent, tone()]).toEqual(["Reconnecting", "waiting"]);
  world.environment.online = false;
  await during(() => world.environment.advance(60_000));
  expect(await findings()).toEqual([]);
});

it("says that there is no network", async () => {
  const world = new World();
  await render(world.provide(<Page />));
  world.environment.online = false;
  await during(() => world.server.socket.end());
  expect([status()?.textContent, tone()]).toEqual(["Offline", "bad"]);
});

it("offers to connect again after it was closed", async () => {
  const world = new World();
  await render(world.provide(<Page />));
  expect(document.querySelector("button")).toBe(null);
  await during(() => socket.close());
  expect([status()?.textContent, tone()]).toEqual(["Disconnected", "bad"]);
  expect(await findings()).toEqual([]);
  await click(document.querySelector("button"));
  expect(status()?.textContent).toBe("Connected");
  expect(document.activeElement).toBe(status());
});

it("speaks another language", async () => {
  const world = new World();
  await render(world.provide(<ConnectionStatusIndicator labels={{ connected: "Verbunden" }} />));
  expect(status()?.textContent).toBe("Verbunden");
});
