import { clock, find, make, pretty, setAlarm } from "./dom.js";

const MAX_ROWS = 200;

const list = find("#functions ol");
const empty = find("#functions .empty");
const onlyFailed = find("#functions-failed");
const rows = [];

export function add(records) {
  for (const record of records.slice(-MAX_ROWS)) {
    const row = record.event === "throttled" ? throttled(record) : invocation(record);
    row.element.hidden = onlyFailed.checked && !row.hasFailed;
    rows.push(row);
    list.prepend(row.element);
  }
  while (rows.length > MAX_ROWS) rows.shift().element.remove();
  showEmpty();
}

export function clear() {
  for (const { element } of rows.splice(0)) element.remove();
  showEmpty();
}

function showEmpty() {
  empty.hidden = rows.some(({ element }) => !element.hidden);
}

function invocation(record) {
  const { result } = record;
  const hasFailed = result.kind === "failed" || result.status >= 400;
  const outcome = result.kind === "failed" ? "failed" : String(result.status ?? "ok");
  const summary = make(
    "summary",
    {},
    make("time", {}, clock(record.atMs)),
    make("b", {}, record.function),
    make("span", { className: `type ${hasFailed ? "bad" : "good"}` }, outcome),
    make("span", { className: "preview" }, result.error ?? ""),
    make("span", { className: "number" }, `${record.durationMs.toFixed(record.durationMs < 10 ? 1 : 0)} ms`),
  );
  const details = make("details", {}, summary);
  details.addEventListener("toggle", () => {
    if (details.childElementCount > 1) return;
    details.append(make("p", { className: "note" }, `Request ${record.requestId}`));
    if (result.error !== undefined) details.append(make("pre", { className: "bad" }, result.error));
    details.append(make("pre", {}, record.log));
  });
  return { element: make("li", {}, details), hasFailed };
}

function throttled(record) {
  const element = make(
    "li",
    { className: "line" },
    make("time", {}, clock(record.atMs)),
    make("b", {}, record.function),
    make("span", { className: "type bad" }, "throttled"),
    make("span", { className: "preview" }, record.reason),
  );
  return { element, hasFailed: true };
}

let shown = "";

/** Shows the dead letters, if they are others than before. */
export function showLetters({ total, newest }) {
  setAlarm(find("#letters-count"), total);
  find("#letters .empty").hidden = total > 0;
  const now = JSON.stringify(newest);
  if (now === shown) return;
  shown = now;
  find("#letters ol").replaceChildren(...newest.map(letter));
}

function letter({ function: name, at, condition, attempts, request, response }) {
  const summary = make(
    "summary",
    {},
    make("time", {}, clock(Date.parse(at))),
    make("b", {}, name),
    make("span", { className: "type bad" }, condition),
    make("span", { className: "preview" }, `${attempts} ${attempts === 1 ? "attempt" : "attempts"}`),
  );
  const parts = [
    make("p", { className: "note" }, "Event"),
    make("pre", {}, pretty(request)),
    make("p", { className: "note" }, "Last answer"),
    make("pre", { className: "bad" }, pretty(response)),
  ];
  return make("li", {}, make("details", {}, summary, ...parts));
}

onlyFailed.addEventListener("change", () => {
  for (const { element, hasFailed } of rows) element.hidden = onlyFailed.checked && !hasFailed;
  showEmpty();
});
