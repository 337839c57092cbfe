import { expect, it } from "vitest";
import { connected } from "../support/client.js";
import { settle } from "../support/clock.js";

it.each([{ ok: true }, null, 7, "text", [1, 2]])("a call resolves with what was returned: %j", async (result) => {
  const { server, belfry } = await connected();
  server.result = result;
  await expect(belfry.call("quote.edit", { age: 41 })).resolves.toEqual(result);
  expect(server.socket.of("call")).toMatchObject([{ data: { action: "quote.edit", data: { age: 41 } } }]);
});

it("a call needs no data", async () => {
  const { server, belfry } = await connected();
  await belfry.call("refresh");
  expect(server.socket.of("call")[0]?.data).toEqual({ action: "refresh" });
});

it.each([
  ["CALL_FAILED", "retryLater"],
  ["FORBIDDEN", "giveUp"],
])("a call that fails with %s rejects, and is not repeated", async (code, advice) => {
  const { server, belfry } = await connected();
  server.intercept = (frame, socket) => {
    if (frame.type === "call") server.refuse(frame, socket, code);
    return frame.type === "call";
  };
  await expect(belfry.call("quote.edit")).rejects.toMatchObject({ name: "BelfryError", code, advice });
  expect(server.socket.of("call").length).toBe(1);
});

it("a call without a connection rejects at once", async () => {
  const { server, belfry } = await connected();
  server.accepts = false;
  server.socket.end(1006);
  await expect(belfry.call("quote.edit")).rejects.toMatchObject({ code: "DISCONNECTED", advice: "retryNow" });
});

it("a call whose connection is lost rejects, and is not repeated", async () => {
  const { environment, server, belfry } = await connected();
  server.intercept = ({ type }) => type === "call";
  const call = belfry.call("quote.edit");
  await settle();
  server.socket.end(1006);
  await expect(call).rejects.toMatchObject({ code: "DISCONNECTED" });
  await environment.advance(5_000);
  expect(server.socket.of("call")).toEqual([]);
});

it("a call waits longer than the application's function may take", async () => {
  const { environment, server, belfry } = await connected();
  server.intercept = ({ type }) => type === "call";
  let error: unknown;
  belfry.call("quote.edit").catch((reason: unknown) => {
    error = reason;
  });
  await environment.advance(34_999);
  expect(error).toBeUndefined();
  await environment.advance(1);
  expect(error).toMatchObject({ code: "TIMEOUT" });
});
