// The page of examples/web, with two users or more.
import assert from "node:assert/strict";
import { request } from "node:http";
import { after, afterEach, before, test } from "node:test";
import { Browser, errorsOf, picture, screenshot, seriousFindings } from "./support/browser.mjs";
import { Demo } from "./support/demo.mjs";

const WIDE = { width: 1440, height: 1080 };
const NARROW = { width: 390, height: 844 };

let browser;
let demo;
before(async () => {
  browser = await Browser.launch();
  demo = await Demo.start();
});
after(async () => {
  await browser?.close();
  assert.equal(await demo?.stop(), 0, "Ctrl-C stops the demo");
});

afterEach(async () => {
  for (const name of ["answers", "kill", "sockets"]) await demo.post("/api/faults/end", { name });
});

/** A user's page, which is connected. */
async function opened(options = { viewport: WIDE }) {
  const page = await browser.page(options);
  await page.goto(demo.address);
  await state(page, "connected");
  // All of the panels have subscribed.
  await page.getByTestId("premium").getByText("€").waitFor();
  await page.getByText("Gate readers").waitFor();
  return page;
}

/** The pages of two users. */
function two() {
  return Promise.all([opened(), opened()]);
}

async function closed(...pages) {
  await Promise.all(pages.map((page) => page.context().close()));
}

function state(page, name) {
  return page.getByTestId("state").getByText(name, { exact: true }).waitFor();
}

function onWebSocket(page) {
  return page.getByTestId("transport").getByText("WebSocket", { exact: true }).waitFor();
}

function userOf(page) {
  return page.getByTestId("user").textContent();
}

function press(page, name) {
  return page.getByRole("button", { name, exact: true }).click();
}

function panel(page, name) {
  return page.getByRole("region", { name, exact: true });
}

function logged(page, text) {
  return page.getByRole("list", { name: "Log" }).getByText(text).first().waitFor();
}

function toast(page, text) {
  return page.getByRole("region", { name: "New notifications" }).getByText(text);
}

/** The notifications behind the bell with this text. */
async function received(page, text) {
  await page.getByRole("button", { name: /^Notifications/ }).click();
  const count = await page.getByRole("region", { name: "Notifications", exact: true }).getByText(text).count();
  await page.keyboard.press("Escape");
  return count;
}

/** Raises a threat, and returns its id. */
async function raised(page, raise) {
  const [response] = await Promise.all([page.waitForResponse("**/api/board/threats"), raise()]);
  const { id } = await response.json();
  return id;
}

function threat(page, id) {
  return page.getByTestId("threats").getByRole("listitem").filter({ hasText: id });
}

function alertAll(text) {
  return demo.post("/api/board/alerts", { text });
}

// First, because users who have closed their page are present for another minute.
test("the page has a picture for the README", async () => {
  const small = { viewport: { width: 1440, height: 1120 }, deviceScaleFactor: 0.8 };
  const [page, other] = await Promise.all([opened(small), opened()]);
  await other.getByLabel("Excess").selectOption("150");
  await panel(other, "A quote").getByText("Saved, and told to everybody else.").waitFor();
  await other.getByLabel("Cover").focus();
  await page.getByTestId("field-cover").getByText("is editing").waitFor();
  await page.getByTestId("field-excess").getByText("is editing").waitFor({ state: "detached" });
  await press(page, "Drop the socket");
  await logged(page, "Connected again");
  await press(page, "Raise a threat");
  await demo.post("/api/transcription");
  await press(page, "Upload a sample");
  await toast(page, "report-1.csv").waitFor();
  await panel(page, "Uploads").getByText("Stored, and you were told").waitFor();
  // Last, because each step of the job is short.
  const step = panel(page, "A job").getByText("Computing totals");
  await Promise.all([step.waitFor(), press(page, "Start the job")]);
  await picture(page, "demo");
  await closed(page, other);
});

test("a quote shows who is there, who edits what, and everybody's changes", async () => {
  const [page, other] = await two();
  const [user, otherUser] = [await userOf(page), await userOf(other)];
  const here = panel(page, "A quote").getByRole("list", { name: "Who is here" });
  await here.getByText(`${user} (you)`).waitFor();
  await here.getByText(otherUser, { exact: true }).waitFor();

  const premium = await other.getByTestId("premium").textContent();
  await page.getByLabel("Excess").focus();
  await other.getByTestId("field-excess").getByText(`${user} is editing`).waitFor();
  assert.ok(await other.getByLabel("Excess").isDisabled());
  assert.ok(await other.getByLabel("Cover").isEnabled(), "another field is free");
  await page.getByLabel("Excess").selectOption("500");
  await other.getByText(`${user} changed the excess.`).waitFor();
  assert.notEqual(await other.getByTestId("premium").textContent(), premium);
  await page
    .getByTestId("premium")
    .getByText(await other.getByTestId("premium").textContent())
    .waitFor();
  await screenshot(other, "demo-quote");

  await page.getByLabel("Excess").blur();
  await other.getByTestId("field-excess").getByText("is editing").waitFor({ state: "detached" });
  await other.waitForFunction(() => !document.querySelector('[data-testid="field-excess"] select').disabled);
  await closed(page, other);
});

test("an upload is told to its user, and to nobody else", async () => {
  const [page, other] = await two();
  await press(page, "Upload a sample");
  await toast(page, "report-1.csv").waitFor();
  await panel(page, "Uploads").getByText("Stored, and you were told").waitFor();
  await page.getByRole("button", { name: "Notifications, 1 unread" }).waitFor();
  // What is sent to everybody comes later, so nothing is on its way to the other one.
  await alertAll("After the upload");
  await toast(other, "After the upload").waitFor();
  assert.equal(await received(other, "report-1.csv"), 0);
  await screenshot(page, "demo-uploads");
  assert.deepEqual([...errorsOf(page), ...errorsOf(other)], []);
  await closed(page, other);
});

test("everybody sees the same board, and an alert interrupts", async () => {
  const [page, other] = await two();
  const id = await raised(page, () => press(page, "Raise a threat"));
  // The states before this one are short.
  for (const one of [page, other]) await threat(one, id).getByText("resolved").waitFor();
  await press(other, "Alert everyone");
  for (const one of [page, other]) {
    await one.getByRole("alert").getByText("Evacuation drill at noon").waitFor();
    await panel(one, "Operations").getByText("Evacuation drill at noon").waitFor();
  }
  await screenshot(other, "demo-board");
  await closed(page, other);
});

test("no word is missing from a transcription when its listener was offline", async () => {
  const [page, other] = await two();
  const shows = (one, text) => panel(one, "Transcription").getByText(text).waitFor();
  const textOf = (one) => one.getByTestId("transcript").textContent();
  let before;
  let text;
  // On a busy machine, a speech may be over before the other one is cut off: then the next one must do.
  for (let attempt = 0; attempt < 5 && before === text; attempt += 1) {
    await onWebSocket(other);
    // Another test's speech may have to end first.
    const start = page.getByRole("button", { name: /^(Start|Once more)$/ });
    await start.waitFor();
    await Promise.all([...[page, other].map((one) => shows(one, "Transcribing…")), start.click()]);
    // While sockets are blocked, the client's immediate retry does not bring it back.
    const block = other.getByRole("button", { name: "Block WebSockets", pressed: false });
    await Promise.all([other.waitForResponse("**/api/drop"), block.click()]);
    await other.context().setOffline(true);
    await other
      .getByTestId("state")
      .getByText(/reconnecting|offline/)
      .waitFor();
    before = await textOf(other);
    await shows(page, /Complete: \d+ words/);
    text = await textOf(page);
    assert.equal(await textOf(other), before, "the other one is really cut off");
    await demo.post("/api/faults/end", { name: "sockets" });
    await other.context().setOffline(false);
    await state(other, "connected");
    await shows(other, /Complete: \d+ words/);
    assert.equal(await textOf(other), text);
  }
  assert.notEqual(before, text, "it has missed something");
  await logged(other, /missed messages came, in order/);
  await screenshot(other, "demo-transcription");
  await closed(page, other);
});

test("a job reports over Server-Sent Events, to its user alone", async () => {
  const [page, other] = await two();
  const [request] = await Promise.all([
    page.waitForEvent("request", (one) => one.url().includes("/events?channel=")),
    press(page, "Start the job"),
  ]);
  await panel(page, "A job").getByText("Done. The stream is closed.").waitFor();
  assert.equal(
    await page.getByRole("progressbar", { name: "Progress of the job" }).evaluate(({ value }) => value),
    100,
  );
  const url = new URL(request.url());
  const { token } = await demo.post("/api/token", { userId: await userOf(other) });
  url.searchParams.set("token", token);
  assert.equal((await fetch(url)).status, 403);
  await screenshot(page, "demo-job");
  await closed(page, other);
});

test("lost answers and killed functions lose nothing, and nothing comes twice", async () => {
  const [page, other] = await two();
  await press(page, "Lose answers");
  await press(page, "Kill a function");
  const alerts = ["One", "Two", "Three", "Four", "Five", "Six"].map((word) => `Drill ${word}`);
  await Promise.all(alerts.map(alertAll));
  for (const name of ["Lose answers", "Kill a function"]) {
    await page.getByRole("button", { name, exact: true }).waitFor();
  }
  for (const one of [page, other]) {
    await one.getByRole("button", { name: `Notifications, ${alerts.length} unread` }).waitFor();
    for (const text of alerts) assert.equal(await received(one, text), 1, text);
  }
  await closed(page, other);
});

test("the end of a token costs nothing but a moment", async () => {
  const page = await opened();
  await press(page, "Expire the token");
  await logged(page, "Got a token that ends in 4 seconds");
  await logged(page, /TOKEN_EXPIRED/);
  await alertAll("While the session was over");
  await logged(page, /Got a token because/);
  await state(page, "connected");
  await toast(page, "While the session was over").waitFor();
  assert.equal(await received(page, "While the session was over"), 1);
  await screenshot(page, "demo-token");
  await closed(page);
});

test("a sign-out ends the user's session, and nobody else's", async () => {
  const [page, other] = await two();
  await press(page, "Sign out");
  await state(page, "closed");
  await logged(page, "Closed (SIGNED_OUT)");
  await screenshot(page, "demo-signed-out");
  assert.deepEqual(await seriousFindings(page), []);
  await state(other, "connected");
  await press(page, "Sign in again");
  await state(page, "connected");
  await alertAll("After the sign-in");
  await toast(page, "After the sign-in").waitFor();
  await closed(page, other);
});

test("where WebSockets are blocked, the page uses HTTP", async () => {
  const page = await browser.page({ viewport: WIDE });
  await page.routeWebSocket(/.*/, (socket) => socket.close());
  await page.goto(demo.address);
  await page.getByTestId("transport").getByText("HTTP", { exact: true }).waitFor();
  await page.getByText("Gate readers").waitFor();
  await panel(page, "A quote").getByText("Over HTTP there are no calls and no locks").waitFor();
  await alertAll("Over HTTP, too");
  await toast(page, "Over HTTP, too").waitFor();
  await screenshot(page, "demo-http");
  await closed(page);
});

test("blocked in the middle, it moves to HTTP and loses nothing", async () => {
  const page = await opened();
  await press(page, "Block WebSockets");
  await page.getByTestId("state").getByText("reconnecting").waitFor();
  await alertAll("During the move");
  await page.getByTestId("transport").getByText("HTTP", { exact: true }).waitFor();
  await toast(page, "During the move").waitFor();
  await press(page, "Block WebSockets");
  // The client looks once a minute.
  await onWebSocket(page);
  await alertAll("After the way back");
  await toast(page, "After the way back").waitFor();
  assert.equal(await received(page, "During the move"), 1);
  assert.equal(await received(page, "After the way back"), 1);
  await closed(page);
});

test("a job that the server refuses can be started again", async () => {
  const page = await opened();
  await page.route("**/api/jobs", (route) => route.fulfill({ status: 429, json: { error: "too many jobs" } }));
  await press(page, "Start the job");
  await logged(page, "The job did not start: too many jobs");
  await page.unroute("**/api/jobs");
  await press(page, "Start the job");
  await panel(page, "A job").getByText("Done. The stream is closed.").waitFor();
  await closed(page);
});

test("a page that was open while the demo was started again shows the new state", async () => {
  const page = await opened();
  const user = await userOf(page);
  await page.getByLabel("Excess").selectOption("500");
  await panel(page, "A quote").getByText("Saved, and told to everybody else.").waitFor();
  assert.equal(await demo.stop(), 0);
  const reloaded = page.waitForEvent("load");
  demo = await Demo.start(demo.ports);
  await reloaded;
  await state(page, "connected");
  assert.equal(await userOf(page), user);
  await page.getByLabel("Excess").selectOption("150");
  await panel(page, "A quote").getByText("Saved, and told to everybody else.").waitFor();
  const other = await opened();
  assert.notEqual(await userOf(other), user);
  await closed(page, other);
});

test("the demo's server answers its own page, and nobody else", async () => {
  const json = { "content-type": "application/json" };
  const statusOf = (path, headers) =>
    new Promise((resolve, reject) => {
      const sent = request(`${demo.address}${path}`, { method: "POST", headers }, ({ statusCode }) =>
        resolve(statusCode),
      );
      sent.on("error", reject).end("{}");
    });
  assert.equal(await statusOf("/api/token", { ...json, host: "rebound.example" }), 403);
  assert.equal(await statusOf("/api/token", { ...json, origin: "http://page.example" }), 403);
  assert.equal(await statusOf("/api/token", { ...json, "sec-fetch-site": "cross-site" }), 403);
  assert.equal(await statusOf("/api/token", { "content-type": "text/plain" }), 415, "a form needs no preflight");
  assert.equal(await statusOf("/api/token", json), 400, "no such user");
  assert.equal(await statusOf("/internal/calls", json), 401);
  assert.equal(await statusOf("/api/uploads?file=x", json), 401);
  for (const path of ["/..%2fpackage.json", "/assets/..%2f..%2fpackage.json", "/nowhere.js"]) {
    assert.equal((await fetch(`${demo.address}${path}`)).status, 404, path);
  }
});

test("everything works by keyboard alone", async () => {
  const page = await opened();
  const focused = () => page.evaluate(() => document.activeElement.ariaLabel ?? document.activeElement.textContent);
  const tabTo = async (name) => {
    for (let step = 0; step < 60; step += 1) {
      await page.keyboard.press("Tab");
      if (name.test(await focused())) return;
    }
    assert.fail(`Tab does not reach ${name}`);
  };
  await page.keyboard.press("Tab");
  assert.equal((await focused()).trim(), "Skip to the panels");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "Raise a threat", "the link has skipped the bar");
  const id = await raised(page, () => page.keyboard.press("Enter"));
  await threat(page, id).waitFor();

  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Notifications, 1 unread" }).waitFor();
  assert.equal(await focused(), "Alert everyone", "a toast takes no focus");

  const isOnAge = () => page.evaluate(() => document.activeElement.labels?.[0]?.textContent === "Driver's age");
  for (let step = 0; step < 20 && !(await isOnAge()); step += 1) await page.keyboard.press("Tab");
  await page.getByTestId("field-driverAge").getByText("Yours while you edit").waitFor();
  await page.keyboard.press("ArrowUp");
  await panel(page, "A quote").getByText("Saved, and told to everybody else.").waitFor();

  await tabTo(/^Drop the socket/);
  await page.keyboard.press("Space");
  await logged(page, "Connected again, over WebSocket");

  await tabTo(/^Notifications/);
  await page.keyboard.press("Enter");
  await page.keyboard.press("ArrowDown");
  assert.match(await focused(), /Evacuation drill at noon/);
  await page.keyboard.press("Escape");
  assert.match(await focused(), /^Notifications/, "the focus is back on the bell");
  assert.deepEqual(errorsOf(page), []);
  await closed(page);
});

for (const colorScheme of ["light", "dark"]) {
  test(`axe finds nothing serious, ${colorScheme}`, async () => {
    const [page, narrow] = await Promise.all([
      opened({ colorScheme, viewport: WIDE }),
      opened({ colorScheme, viewport: NARROW }),
    ]);
    await press(narrow, "Upload a sample");
    await panel(narrow, "Uploads").getByText("Stored, and you were told").waitFor();
    await narrow.getByLabel("Cover").focus();
    await page.getByTestId("field-cover").getByText("is editing").waitFor();
    await press(page, "Raise a threat");
    await press(page, "Start the job");
    await demo.post("/api/transcription");
    await page.getByTestId("transcript").getByText("by the cleaning crew").waitFor();
    await press(page, "Alert everyone");
    await toast(page, "Evacuation drill").waitFor();
    assert.deepEqual(await seriousFindings(page), []);
    await screenshot(page, `demo-${colorScheme}`);
    await page.getByRole("button", { name: /^Notifications/ }).click();
    assert.deepEqual(await seriousFindings(page), [], "with the list of notifications");
    assert.deepEqual(await seriousFindings(narrow), []);
    assert.equal(await narrow.evaluate(() => document.documentElement.scrollWidth), NARROW.width, "nothing sticks out");
    await screenshot(narrow, `demo-${colorScheme}-narrow`, { fullPage: true });
    await closed(page, narrow);
  });
}
