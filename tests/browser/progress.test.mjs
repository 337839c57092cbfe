// The page of examples/progress: the browser's own EventSource on the function
// Reader.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Browser, errorsOf, screenshot, seriousFindings } from "./support/browser.mjs";
import { inRepository } from "./support/repository.mjs";
import { serveFolder } from "./support/serve.mjs";
import { Stack } from "./support/stack.mjs";

let browser;
let files;
let stack;
before(async () => {
  browser = await Browser.launch();
  files = await serveFolder(inRepository("examples/progress"));
  stack = await Stack.start({
    parameters: { ReaderConcurrency: 20, StreamSeconds: 1, AllowedOrigins: files.origin },
  });
});
after(async () => {
  await browser?.close();
  files?.stop();
  await stack?.stop();
});

/** A page that listens to a job. */
async function listening(job) {
  const page = await browser.page();
  // Every text that the status has had, also one that was replaced at once.
  await page.addInitScript(() => {
    globalThis.statuses = [];
    document.addEventListener("DOMContentLoaded", () => {
      new MutationObserver((changes) => {
        for (const { addedNodes } of changes) for (const { textContent } of addedNodes) statuses.push(textContent);
      }).observe(document.getElementById("status"), { childList: true });
    });
  });
  const settings = new URLSearchParams({ reader: stack.urls.reader, token: await stack.token("alice"), job });
  await page.goto(`${files.origin}/#${settings}`);
  await page.getByText("Waiting for the job…").waitFor();
  return page;
}

const isStream = (request) => request.url().startsWith(`${stack.urls.reader}/events`);

function streamEnd(page) {
  return page.waitForEvent("requestfinished", isStream);
}

async function report(job, percent) {
  const response = await fetch(`${stack.urls.reader}/messages`, {
    method: "POST",
    headers: { authorization: `Bearer ${await stack.token("worker")}` },
    body: JSON.stringify({ channel: `demo:job:${job}`, kind: "job.progress", data: { percent } }),
  });
  assert.equal(response.status, 200, await response.text());
}

function steps(page) {
  return page.evaluate(() => statuses.filter((text) => text.endsWith(" %")));
}

test("EventSource goes on over many streams, with nothing lost and nothing twice", async () => {
  const page = await listening("many");
  let streams = 0;
  page.on("request", (request) => {
    if (isStream(request)) streams += 1;
  });
  const expected = [];
  const next = async () => {
    const percent = expected.length + 1;
    expected.push(`${percent} %`);
    await report("many", percent);
  };
  for (let round = 0; round < 4; round += 1) {
    // While a stream runs, and while none does.
    const ended = streamEnd(page);
    await next();
    await page.getByText(expected.at(-1), { exact: true }).waitFor();
    await ended;
    await next();
    await next();
    await page.getByText(expected.at(-1), { exact: true }).waitFor();
  }
  assert.deepEqual(await steps(page), expected);
  assert.ok(streams >= 4, `${streams} streams`);
  assert.deepEqual(errorsOf(page), []);
  await report("many", 100);
  await page.getByText("100 %", { exact: true }).waitFor();
  assert.equal(await page.getByRole("progressbar").evaluate(({ value }) => value), 100);
  assert.equal(await page.evaluate(() => events.readyState), 2, "the page closes the stream of a job that is done");
});

test("EventSource catches up after the network was away", async () => {
  const page = await listening("offline");
  await report("offline", 1);
  await page.getByText("1 %", { exact: true }).waitFor();
  const cut = page.waitForEvent("requestfailed", isStream);
  await page.context().setOffline(true);
  await cut;
  for (const percent of [2, 3, 4]) await report("offline", percent);
  await page.context().setOffline(false);
  await page.getByText("4 %", { exact: true }).waitFor();
  assert.deepEqual(await steps(page), ["1 %", "2 %", "3 %", "4 %"]);
});

test("the page says that steps were lost if their history is gone", async () => {
  const page = await listening("lost");
  await report("lost", 1);
  await page.getByText("1 %", { exact: true }).waitFor();
  await streamEnd(page);
  // As DynamoDB does with a history that nobody has added to for long.
  const key = { channel: { S: "demo:job:lost" }, position: { S: "head" } };
  const { Attributes } = await stack.dynamodb("DeleteItem", {
    TableName: "Messages",
    Key: key,
    ReturnValues: "ALL_OLD",
  });
  assert.ok(Attributes, "the channel has a head");
  await page.getByText("Some steps were missed.").waitFor();
  await report("lost", 9);
  await page.getByText("9 %", { exact: true }).waitFor();
});

test("the page says that it needs a new token when its session is over", async () => {
  const page = await browser.page();
  const settings = new URLSearchParams({ reader: stack.urls.reader, token: "nonsense", job: "refused" });
  await page.goto(`${files.origin}/#${settings}`);
  await page.getByText("Refused: get a new token.").waitFor();
});

test("axe finds nothing serious", async () => {
  const page = await listening("axe");
  await report("axe", 40);
  await page.getByText("40 %", { exact: true }).waitFor();
  assert.deepEqual(await seriousFindings(page), []);
  await screenshot(page, "progress");
});
