import { call, find, make, setAlarm, setText } from "./dom.js";

const PATH = "/_local/faults";

/** Every kind of fault, as docs/GATEWAY.md describes them. */
const GROUPS = [
  {
    title: "Posts to clients",
    subject: "connection",
    kinds: {
      "post-410": "the connection is said to be gone",
      "post-429": "the post is throttled",
      "post-500": "the post fails",
      "post-silence": "the post gets no response",
    },
  },
  {
    title: "Connections",
    subject: "connection",
    kinds: {
      "peer-freeze": "the client neither reads nor sends",
      "disconnect-drop": "$disconnect never runs",
      "disconnect-duplicate": "$disconnect runs twice",
      "disconnect-delay": "$disconnect runs late",
    },
  },
  {
    title: "Functions",
    subject: "function",
    kinds: {
      "function-kill": "the process dies during its work",
      "function-lose-answer": "the process dies after its work",
    },
  },
  {
    title: "DynamoDB",
    subject: "operation",
    kinds: {
      "dynamodb-throttle": "a call is throttled",
      "dynamodb-conflict": "a write meets a transaction",
      "dynamodb-contention": "transactions hold their items",
      "dynamodb-timeout": "a call is lost",
      "dynamodb-lose-answer": "the answer of a call is lost",
      "dynamodb-slow": "a call takes longer",
    },
  },
];

const DELAYED = new Set(["disconnect-delay", "function-kill", "dynamodb-contention", "dynamodb-slow"]);

const options = find("#faults-options");
const problem = find("#faults-problem");
const switches = new Map();

for (const { title, subject, kinds } of GROUPS) {
  const rows = Object.entries(kinds).map(([fault, effect]) => toRow(fault, effect, subject));
  find("#faults-kinds").append(make("h3", {}, title), make("ul", { className: "switches" }, ...rows));
}

function toRow(fault, effect, subject) {
  const button = make("button", { type: "button", role: "switch", className: "switch", "aria-checked": "false" });
  const active = make("span", { className: "active" });
  button.append(make("span", { className: "knob", ariaHidden: "true" }), make("code", {}, fault), active);
  button.append(make("span", { className: "note" }, effect));
  button.addEventListener("click", () => toggle(fault, subject));
  switches.set(fault, { button, active, ids: [] });
  return make("li", {}, button);
}

/** Shows which faults are active. */
export function show(faults) {
  setAlarm(find("#faults-count"), faults.length);
  find("#faults-end").disabled = faults.length === 0;
  for (const [name, { button, active }] of switches) {
    const mine = faults.filter(({ fault }) => fault === name);
    switches.get(name).ids = mine.map(({ id }) => id);
    button.setAttribute("aria-checked", String(mine.length > 0));
    setText(active, mine.map(describe).join("; "));
  }
}

function describe({ struck, share, times, delay, connection, function: name, operation }) {
  const parts = [`struck ${struck}×`];
  if (share !== undefined) parts.push(`share ${share}`);
  if (times !== undefined) parts.push(`of ${times}`);
  if (delay !== undefined) parts.push(delay);
  const only = connection ?? name ?? operation;
  if (only !== undefined) parts.push(only);
  return parts.join(", ");
}

async function toggle(fault, subject) {
  const { ids } = switches.get(fault);
  await change(async () => {
    if (ids.length === 0) await call("POST", PATH, toSpec(fault, subject));
    for (const id of ids) await call("DELETE", `${PATH}/${id}`);
  });
}

function toSpec(fault, subject) {
  const value = (name) => options.querySelector(`[name=${name}]`).value.trim();
  const spec = { fault };
  if (value("share") !== "1") spec.share = Number(value("share"));
  if (value("times") !== "" && fault !== "peer-freeze") spec.times = Number(value("times"));
  // Without options, a process is killed at once.
  if (DELAYED.has(fault) && (fault !== "function-kill" || options.open)) spec.delay = value("delay");
  if (value("only") !== "") spec[subject] = value("only");
  return spec;
}

async function change(changing) {
  setText(problem, "");
  try {
    await changing();
    // Sooner than with the next state.
    const { answer } = await call("GET", PATH);
    show(answer);
  } catch (error) {
    setText(problem, error.message);
  }
}

find("#faults-end").addEventListener("click", () => change(() => call("DELETE", PATH)));
