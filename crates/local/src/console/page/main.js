// The page lives on one stream of events, which the browser opens again by
// itself.
import * as connections from "./connections.js";
import { find, setText } from "./dom.js";
import * as faults from "./faults.js";
import * as functions from "./functions.js";
import * as send from "./send.js";
import * as traffic from "./traffic.js";
import { remember } from "./users.js";

const live = find("#live");
let run;

function say(state, text) {
  live.dataset.state = state;
  setText(live, text);
}

const events = new EventSource("console/events");

events.addEventListener("start", ({ data }) => {
  const start = JSON.parse(data);
  if (run !== undefined && run !== start.run) {
    // The stack was started anew, and knows nothing of what is here.
    traffic.clear();
    functions.clear();
  }
  run = start.run;
  setText(find("#address"), start.stack.websocket);
  connections.start(start.stack);
  say("live", "Live");
});

events.addEventListener("state", ({ data }) => {
  const state = JSON.parse(data);
  remember(state.connections.newest);
  connections.show(state.connections);
  faults.show(state.faults);
  functions.showLetters(state.deadLetters);
  send.offer(state.connections.newest);
});

events.addEventListener("records", ({ data }) => {
  const { missed, records } = JSON.parse(data);
  if (missed > 0) traffic.addNote(`This page was too slow and missed ${missed} records.`);
  const isInvocation = ({ event }) => event === "invocation" || event === "throttled";
  traffic.add(records.filter((record) => !isInvocation(record)));
  functions.add(records.filter(isInvocation));
});

events.addEventListener("error", () => {
  if (events.readyState === EventSource.CLOSED) say("off", "Too many consoles are open: close one, then reload");
  else say("waiting", "The stack does not respond. Waiting for it…");
});

setInterval(connections.tick, 1_000);
