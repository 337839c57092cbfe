import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Stack } from "../../../typescript/test/support/stack.js";
import {
  ConnectionStatusIndicator,
  NotificationToast,
  useChannel,
  useLock,
  usePresence,
  useWebSocket,
} from "../../src/index.js";
import { Tab } from "../support/tab.js";

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start("--schedule-every", "1s", "--parameter", "PresenceGraceSeconds=5");
});
afterEach(() => Tab.closeAll());
afterAll(() => stack.stop());

function Room({ name, user }: { name: string; user: string }) {
  const { messages, publish, status } = useChannel(name);
  const { members } = usePresence(name, { name: user });
  const { state, holder, lock, unlock } = useLock(name, "price", { seconds: 30 });
  const { unread } = useWebSocket();
  const users = members.map(({ userId }) => userId).sort();
  return (
    <>
      <ConnectionStatusIndicator />
      <NotificationToast />
      <p className="status">{status}</p>
      <p className="users">{users.join(" ")}</p>
      <p className="messages">{messages.map(({ from, data }) => `${from}:${data}`).join(" ")}</p>
      <p className="lock">{[state, holder?.userId].filter(Boolean).join(" ")}</p>
      <p className="unread">{unread}</p>
      <button type="button" onClick={() => publish("chat.line", "hello", { echo: true })}>
        Publish
      </button>
      <button type="button" onClick={lock}>
        Lock
      </button>
      <button type="button" onClick={unlock}>
        Unlock
      </button>
    </>
  );
}

async function join(name: string, user: string): Promise<Tab> {
  const tab = await Tab.open(stack, user, <Room name={name} user={user} />);
  await tab.shows("status", "subscribed");
  return tab;
}

describe("two pages in a room", () => {
  it("see each other, and what the other one says", async () => {
    const [alice, bob] = [await join("room:page", "alice"), await join("room:page", "bob")];
    await alice.shows("users", "alice bob");
    await bob.shows("users", "alice bob");
    alice.click("Publish");
    await bob.shows("messages", "alice:hello");
    await alice.shows("messages", "alice:hello");
    bob.close();
    await alice.shows("users", "alice");
  });

  it("lock one after the other", async () => {
    const [alice, bob] = [await join("room:lock", "alice"), await join("room:lock", "bob")];
    alice.click("Lock");
    await alice.shows("lock", "held");
    await bob.shows("lock", "taken alice");
    alice.click("Unlock");
    await bob.shows("lock", "free");
    bob.click("Lock");
    await alice.shows("lock", "taken bob");
    // A page that is closed has released its lock.
    bob.close();
    await alice.shows("lock", "free");
  });

  it("miss nothing while one of them is cut off", async () => {
    const [alice, bob] = [await join("room:cut", "alice"), await join("room:cut", "bob")];
    alice.click("Publish");
    await bob.shows("messages", "alice:hello");
    bob.network.block(true);
    bob.network.cut();
    await bob.shows("belfry-state", "Reconnecting");
    expect(bob.text("status")).toBe("subscribing");
    alice.click("Publish");
    await alice.shows("messages", "alice:hello alice:hello");
    bob.network.block(false);
    await bob.shows("messages", "alice:hello alice:hello");
    await bob.shows("belfry-state", "Connected");
  });
});

it("a page shows what a server tells its user, once", async () => {
  const alice = await join("room:notified", "alice");
  await stack.notify("alice", { kind: "upload.completed", file: "report.pdf" }, "upload-1");
  await alice.shows("belfry-detail", "report.pdf");
  await stack.notify("alice", { kind: "upload.completed", file: "report.pdf" }, "upload-1");
  await stack.notify("alice", { kind: "upload.completed", file: "summary.pdf" }, "upload-2");
  await alice.shows("belfry-detail", "summary.pdf");
  expect(alice.text("unread")).toBe("2");
});

it("a page is refused a channel that is not for its user", async () => {
  const tab = await Tab.open(stack, "alice", <Room name="admin:1" user="alice" />);
  await tab.shows("status", "refused");
});
