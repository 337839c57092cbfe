// @vitest-environment node
import { StrictMode } from "react";
import { renderToString } from "react-dom/server";
import { expect, it } from "vitest";
import { useChannel, useLock, usePresence, useStatus, useWebSocket } from "../../src/index.js";
import { World } from "../support/world.js";

function Everything() {
  const { client, notifications, unread } = useWebSocket();
  const { messages, status } = useChannel("room:7");
  const { count } = usePresence("room:7", { name: "Alice" });
  const { state } = useLock("room:7", "price");
  return <p>{JSON.stringify([useStatus(), client, notifications, unread, messages, status, count, state])}</p>;
}

it("a server renders a page that connects, without a socket or a timer", () => {
  const world = new World();
  const html = renderToString(<StrictMode>{world.provide(<Everything />)}</StrictMode>);
  const text = html.replaceAll("&quot;", '"');
  expect(text).toBe('<p>[{"state":"connecting"},null,[],0,[],"subscribing",0,"free"]</p>');
  expect(world.server.sockets).toEqual([]);
  expect(world.reasons).toEqual([]);
  expect(world.isQuiet).toBe(true);
});

it("a hook without a provider says what to do", () => {
  expect(() => renderToString(<Everything />)).toThrow("put a <WebSocketProvider> around this component");
});
