import { clock, find, make, parsed, pretty, setText, unseen } from "./dom.js";
import { nameOf, onNews } from "./users.js";

/** Rows that the page keeps, and records that wait while it is paused. */
const MAX_ROWS = 300;
const MAX_PREVIEW = 240;

const section = find("#traffic");
const list = section.querySelector("ol");
const empty = section.querySelector(".empty");
const filter = find("#traffic-filter");
const pause = find("#traffic-pause");
const rows = [];
let waiting = [];
let isPaused = false;

export function add(records) {
  if (isPaused) {
    waiting = waiting.concat(records).slice(-MAX_ROWS);
    setText(pause, `Resume (${waiting.length}${waiting.length === MAX_ROWS ? "+" : ""})`);
    return;
  }
  for (const record of records.slice(-MAX_ROWS)) {
    const row = toRow(record);
    row.element.hidden = !matches(row);
    rows.push(row);
    list.prepend(row.element);
  }
  while (rows.length > MAX_ROWS) rows.shift().element.remove();
  showEmpty();
}

/** Says that records are missing. */
export function addNote(text) {
  add([{ event: "note", atMs: Date.now(), text }]);
}

/** Shows only what has this text. */
export function filterBy(text) {
  filter.value = text;
  applyFilter();
}

export function clear() {
  for (const { element } of rows.splice(0)) element.remove();
  waiting = [];
  showEmpty();
}

function showEmpty() {
  empty.hidden = rows.some(({ element }) => !element.hidden);
  const all = "Frames appear here as they are sent and received.";
  setText(empty, rows.length === 0 ? all : "Nothing here has this text.");
}

function matches({ record, haystack }) {
  const wanted = filter.value.trim().toLowerCase();
  if (wanted === "" || record.event === "gap" || record.event === "note") return true;
  return `${nameOf(record.connection).toLowerCase()} ${haystack}`.includes(wanted);
}

function applyFilter() {
  for (const row of rows) row.element.hidden = !matches(row);
  showEmpty();
}

function toRow(record) {
  const build = { frame, connected, disconnected, refused, gap, note }[record.event];
  const { element, user, text } = build(record);
  return { record, element, user, haystack: `${record.connection ?? ""} ${text}`.toLowerCase() };
}

function frame(record) {
  // A text that was cut has a label instead.
  const content = record.label ?? parsed(record.text);
  const parts = [content?.type, content?.data?.kind].filter((part) => typeof part === "string");
  const type = parts.join(" · ") || (content === undefined ? "not JSON" : "frame");
  const isIn = record.direction === "in";
  const arrow = make("span", { className: `arrow ${record.direction}`, ariaHidden: "true" }, isIn ? "↑" : "↓");
  const user = make("b", {}, nameOf(record.connection));
  const preview = make("span", { className: "preview" }, toPreview(record.text, record.label ? undefined : content));
  const summary = make(
    "summary",
    {},
    make("time", {}, clock(record.atMs)),
    arrow,
    unseen(isIn ? "from " : "to "),
    user,
    make("span", { className: `type ${content?.type === "error" ? "bad" : ""}` }, type),
    preview,
  );
  const details = make("details", {}, summary);
  // Most rows are never opened.
  details.addEventListener("toggle", () => {
    if (details.childElementCount > 1) return;
    const size = `${record.bytes.toLocaleString("en")} bytes`;
    const cut = record.bytes > new TextEncoder().encode(record.text).length ? ", of which the first are shown" : "";
    details.append(
      make("p", { className: "note" }, `${record.connection}, ${size}${cut}`),
      make("pre", {}, pretty(record.text)),
    );
  });
  return { element: make("li", {}, details), user, text: `${type} ${record.text}` };
}

/** What is new in a frame: its channel, and its data without the kind that its label has. */
function toPreview(text, content) {
  const data = content?.data;
  if (typeof data !== "object" || data === null) return text.slice(0, MAX_PREVIEW);
  if (Array.isArray(data.channels)) {
    const names = data.channels.map((one) => (typeof one?.channel === "string" ? one.channel : JSON.stringify(one)));
    return names.join(" ").slice(0, MAX_PREVIEW);
  }
  const { kind, channel = content.channel, ...rest } = data;
  const isMessage = typeof kind === "string" && "data" in rest;
  const parts = [typeof channel === "string" ? channel : "", JSON.stringify(isMessage ? rest.data : rest)];
  return parts.join(" ").trim().slice(0, MAX_PREVIEW);
}

function line(record, mark, className, text) {
  const user = record.connection === undefined ? "" : make("b", {}, nameOf(record.connection));
  const element = make(
    "li",
    { className: "line" },
    make("time", {}, clock(record.atMs)),
    make("span", { className: `arrow ${className}`, ariaHidden: "true" }, mark),
    user,
    make("span", { className: "preview" }, text),
  );
  return { element, user: user || undefined, text };
}

const connected = (record) => line(record, "●", "good", "connected");
const disconnected = (record) => line(record, "○", "", `disconnected: ${record.code} ${record.reason}`);
const refused = (record) => line(record, "✕", "bad", `handshake refused: ${record.status}`);
const gap = (record) => line(record, "⋯", "", "Before this, no console was open and nothing was recorded.");
const note = (record) => line(record, "⋯", "bad", record.text);

onNews(() => {
  for (const { record, user } of rows) if (user) setText(user, nameOf(record.connection));
  if (filter.value !== "") applyFilter();
});
filter.addEventListener("input", applyFilter);
pause.addEventListener("click", () => {
  isPaused = !isPaused;
  pause.classList.toggle("on", isPaused);
  setText(pause, isPaused ? "Resume" : "Pause");
  if (!isPaused) add(waiting.splice(0));
});
find("#traffic-clear").addEventListener("click", clear);
