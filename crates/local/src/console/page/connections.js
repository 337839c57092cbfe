import { call, duration, find, make, setText, unseen } from "./dom.js";
import { filterBy } from "./traffic.js";
import { nameOf } from "./users.js";

const MAX_CHANNELS = 4;

const section = find("#connections");
const table = section.querySelector("table");
const body = section.querySelector("tbody");
const empty = section.querySelector(".empty");
const problem = find("#connections-problem");
const rows = new Map();
let management = "";

export function start({ websocket, management: url, lambda }) {
  // The path alone: the page may have another name for this host.
  management = new URL(url).pathname;
  const token = `target/debug/belfry token --user alice --endpoint ${lambda}`;
  find("#connect-command").textContent = `npx --yes wscat@6.1.0 --connect "${websocket}?token=$(${token})"`;
}

export function show({ total, newest }) {
  setText(find("#connections-count"), String(total));
  table.hidden = newest.length === 0;
  empty.hidden = newest.length > 0;
  const more = find("#connections-more");
  more.hidden = total <= newest.length;
  setText(more, `Only the newest ${newest.length} of ${total} are listed.`);
  const open = new Set(newest.map(({ id }) => id));
  for (const [id, row] of rows) {
    if (open.has(id)) continue;
    // The keyboard stays where it was.
    if (row.element.contains(document.activeElement)) section.querySelector(".body").focus();
    row.element.remove();
    rows.delete(id);
  }
  for (const connection of newest.toReversed()) {
    if (!rows.has(connection.id)) add(connection);
    update(rows.get(connection.id), connection);
  }
}

export function tick() {
  for (const { age, connectedAtMs } of rows.values()) setText(age, duration(Date.now() - connectedAtMs));
}

function add({ id, connectedAtMs, userAgent, sourceIp }) {
  const user = make("button", { type: "button", className: "link", title: "Show only its traffic" });
  user.addEventListener("click", () => filterBy(id));
  const title = [id, `from ${sourceIp}`, userAgent].filter(Boolean).join("\n");
  const channels = make("div", { className: "chips" });
  const age = make("td", { className: "number" });
  const received = make("td", { className: "number" });
  const sent = make("td", { className: "number" });
  const close = make("button", { type: "button" }, "Close");
  close.addEventListener("click", () => end(id, close));
  const who = make("th", { scope: "row" }, user, make("code", { title }, id.slice(0, 6)));
  const element = make(
    "tr",
    {},
    who,
    make("td", { className: "channels" }, channels),
    age,
    received,
    sent,
    make("td", {}, close),
  );
  rows.set(id, { element, user, channels, age, received, sent, close, connectedAtMs });
  body.prepend(element);
}

function update(row, { id, channels, received, sent }) {
  const name = nameOf(id);
  setText(row.user, name);
  if (row.named !== name) row.close.replaceChildren("Close", unseen(` the connection of ${name}`));
  row.named = name;
  const list = channels.join("\n");
  if (row.list !== list) {
    const shown = channels.slice(0, MAX_CHANNELS).map((channel) => make("span", { className: "chip" }, channel));
    const more = channels.length - MAX_CHANNELS;
    if (more > 0) shown.push(make("span", { className: "chip", title: list }, `+${more}`));
    row.channels.replaceChildren(...(shown.length > 0 ? shown : [make("span", { className: "none" }, "none")]));
  }
  row.list = list;
  setText(row.received, String(received));
  setText(row.sent, String(sent));
  setText(row.age, duration(Date.now() - row.connectedAtMs));
}

async function end(id, button) {
  // Not `disabled`, which would take the keyboard's focus away.
  if (button.ariaDisabled === "true") return;
  button.ariaDisabled = "true";
  setText(problem, "");
  try {
    await call("DELETE", `${management}/@connections/${encodeURIComponent(id)}`);
  } catch (error) {
    setText(problem, `It was not closed: ${error.message || "it has ended already"}`);
    button.ariaDisabled = "false";
  }
}

const copy = find("#copy-command");
// Browsers have a clipboard for pages of this machine only.
copy.hidden = navigator.clipboard === undefined;
copy.addEventListener("click", async () => {
  await navigator.clipboard.writeText(find("#connect-command").textContent);
  setText(copy, "Copied");
});
