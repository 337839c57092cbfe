import { StrictMode, Suspense } from "react";
import { renderToString } from "react-dom/server";
import { afterEach, expect, it, vi } from "vitest";
import { ConnectionStatusIndicator, NotificationCenter, NotificationToast, useChannel } from "../../src/index.js";
import { cleanUp, during, hydrate } from "../support/render.js";
import { World } from "../support/world.js";

afterEach(async () => {
  await cleanUp();
  vi.restoreAllMocks();
});

function Room() {
  const { status, messages } = useChannel("room:7");
  return (
    <p>
      {status} {messages.length}
    </p>
  );
}

it("a page that a server has rendered comes to life without a mismatch", async () => {
  const complaint = vi.spyOn(console, "error");
  const world = new World();
  const page = (
    <StrictMode>
      {world.provide([
        <ConnectionStatusIndicator key="status" />,
        <NotificationCenter key="center" />,
        <NotificationToast key="toast" />,
        <Room key="room" />,
      ])}
    </StrictMode>
  );
  const html = renderToString(page);
  expect(html).toContain("Connecting");
  expect(world.server.sockets).toEqual([]);

  const { container, errors, unmount } = await hydrate(html, page);
  expect(container.textContent).toBe("Connectedsubscribed 0");
  expect(errors).toEqual([]);
  expect(complaint).not.toHaveBeenCalled();
  expect(world.server.sockets.length).toBe(1);
  await unmount();
  expect(world.isQuiet).toBe(true);
});

let code: Promise<void> | undefined;
function Late() {
  if (code) throw code;
  return <ConnectionStatusIndicator />;
}

it("a part whose code comes after the connection finds what the server rendered", async () => {
  const complaint = vi.spyOn(console, "error");
  const world = new World();
  const page = world.provide(
    <Suspense>
      <Late />
    </Suspense>,
  );
  code = undefined;
  const html = renderToString(page);
  let load = () => {};
  code = new Promise((resolve) => {
    load = () => {
      code = undefined;
      resolve();
    };
  });

  const { container, errors } = await hydrate(html, page);
  expect(world.server.open.length).toBe(1);
  expect(container.textContent).toBe("Connecting");
  await during(() => load());
  expect(container.textContent).toBe("Connected");
  expect(errors).toEqual([]);
  expect(complaint).not.toHaveBeenCalled();
});
