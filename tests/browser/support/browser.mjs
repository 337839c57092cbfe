import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, statSync } from "node:fs";
import axe from "axe-core";
import { chromium } from "playwright-core";
import { inRepository } from "./repository.mjs";

/** For a machine that is busy with other tests. */
const PATIENCE_MS = 120_000;

/** A headless Chromium. */
export class Browser {
  #chromium;

  constructor(chromium) {
    this.#chromium = chromium;
  }

  static async launch() {
    const path = execFileSync(inRepository("tools/chromium.sh"), {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "inherit"],
    });
    return new Browser(await chromium.launch({ executablePath: path.trim() }));
  }

  /**
   * A blank page in a context of its own, so it shares no storage with others. `options` are Playwright's for a
   * context, like `{colorScheme: "dark", viewport: {width: 400, height: 800}}`.
   */
  async page(options = {}) {
    const context = await this.#chromium.newContext({ reducedMotion: "reduce", ...options });
    context.setDefaultTimeout(PATIENCE_MS);
    const page = await context.newPage();
    const errors = [];
    collected.set(page, errors);
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => {
      if (message.type() === "error") errors.push(`${message.text()} (${message.location().url})`);
    });
    return page;
  }

  close() {
    return this.#chromium.close();
  }
}

const collected = new WeakMap();

/** The errors that a page has thrown or that its console shows, as texts. */
export function errorsOf(page) {
  return collected.get(page);
}

/** Writes a picture to `target/screenshots/`, and returns its path. `options` are Playwright's for a screenshot. */
export async function screenshot(page, name, options = {}) {
  const folder = inRepository("target/screenshots");
  mkdirSync(folder, { recursive: true });
  const path = `${folder}/${name}.png`;
  await page.screenshot({ path, ...options });
  return path;
}

/** Pictures are a part of the repository for ever, and pages of documentation load them. */
const MAX_PICTURE_BYTES = 200 * 1024;

/** Takes a picture for the documentation. With `PICTURES=1`, it replaces the one in `docs/images`. */
export async function picture(page, name) {
  const path = await screenshot(page, name);
  const { size } = statSync(path);
  assert.ok(size <= MAX_PICTURE_BYTES, `${path} has ${size} bytes; ${MAX_PICTURE_BYTES} are allowed`);
  if (process.env.PICTURES) {
    mkdirSync(inRepository("docs/images"), { recursive: true });
    copyFileSync(path, inRepository(`docs/images/${name}.png`));
  }
}

/** What axe finds on a page and calls serious or critical, as texts. */
export async function seriousFindings(page) {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => globalThis.axe.run({ resultTypes: ["violations"] }));
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .flatMap(({ id, nodes }) =>
      nodes.map(({ target, failureSummary }) => `${id}: ${target.join(" ")}: ${failureSummary}`),
    );
}
