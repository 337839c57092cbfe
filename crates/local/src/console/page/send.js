import { call, find, make, setText } from "./dom.js";

/** What each kind of target is called, and its field in a request. */
const TARGETS = {
  user: { label: "User", field: (name) => ({ userId: name }) },
  channel: { label: "Channel", field: (name) => ({ channel: name }) },
  connections: { label: "Connection", field: (name) => ({ connectionIds: [name] }) },
  all: { label: "", field: () => ({}) },
};

const broadcast = find("#broadcast");
const publish = find("#publish");

/** Offers what is connected as targets. */
export function offer(connections) {
  fill("#known-user", new Set(connections.flatMap(({ userId }) => userId ?? [])));
  fill("#known-channel", new Set(connections.flatMap(({ channels }) => channels)));
  fill("#known-connections", new Set(connections.map(({ id }) => id)));
}

function fill(selector, values) {
  const list = find(selector);
  const now = [...values].sort();
  if (list.dataset.values === now.join("\n")) return;
  list.dataset.values = now.join("\n");
  list.replaceChildren(...now.map((value) => make("option", { value })));
}

function onSubmit(form, send) {
  const [problem, outcome] = [form.querySelector(".problem"), form.querySelector(".outcome")];
  const button = form.querySelector("button");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true";
    setText(problem, "");
    setText(outcome, "");
    try {
      const data = toJson(form.elements.data);
      if (data !== undefined) outcome.textContent = await send(data);
    } catch (error) {
      problem.textContent = error.message;
    }
    button.ariaDisabled = "false";
  });

  /** The JSON of a field. Marks the field if it has none. */
  function toJson(field) {
    try {
      const data = JSON.parse(field.value);
      field.removeAttribute("aria-invalid");
      return data;
    } catch (error) {
      field.setAttribute("aria-invalid", "true");
      field.focus();
      problem.textContent = `The data is not JSON: ${error.message}`;
      return undefined;
    }
  }
}

onSubmit(broadcast, async (data) => {
  const { type, name } = broadcast.elements;
  const target = { type: type.value, ...TARGETS[type.value].field(name.value.trim()) };
  const request = { target, message: { type: "notification", data } };
  const { answer, isFunctionError } = await call("POST", "/2015-03-31/functions/Broadcaster/invocations", request);
  if (isFunctionError) throw new Error(answer.errorMessage);
  const { success, failure, status, failures } = answer;
  const causes = Object.entries(failures).filter(([, count]) => count > 0);
  const why = causes.map(([cause, count]) => `${count} ${cause}`).join(", ");
  return `${status}: ${success} reached, ${failure} not${why && ` (${why})`}`;
});

onSubmit(publish, async (data) => {
  const { user, channel, kind } = publish.elements;
  const request = { user: user.value.trim(), channel: channel.value.trim(), kind: kind.value.trim(), data };
  const { answer } = await call("POST", "/_local/publish", request);
  if (answer.type !== "published") {
    const { code, message } = answer.data ?? { code: "Error", message: answer.message };
    throw new Error(`${code}: ${message}`);
  }
  const { position } = answer.data;
  return position ? `Published as number ${position.seq}` : "Published";
});

broadcast.elements.type.addEventListener("change", ({ target }) => {
  const { name } = broadcast.elements;
  setText(find("#broadcast-name"), TARGETS[target.value].label || "User");
  name.setAttribute("list", `known-${target.value}`);
  name.closest("label").hidden = target.value === "all";
  name.value = find(`#known-${target.value} option`)?.value ?? (target.value === "user" ? "alice" : "");
});

for (const choice of document.querySelectorAll("[name=how]")) {
  choice.addEventListener("change", () => {
    broadcast.hidden = choice.value !== "broadcast";
    publish.hidden = choice.value !== "publish";
  });
}
