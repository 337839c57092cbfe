// Elements are made here and nowhere else. Texts become text nodes, so nothing
// that a client sends can become markup.

/** An element with properties and children. Names with a hyphen are attributes. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "scope") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== undefined && child !== ""));
  return element;
}

export function find(selector) {
  return document.querySelector(selector);
}

/** Text that only assistive technology reads. */
export function unseen(text) {
  return make("span", { className: "hidden" }, text);
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Shows a number of things that should not be there. */
export function setAlarm(element, number) {
  setText(element, String(number));
  element.classList.toggle("bad", number > 0);
}

/** A time of day, with milliseconds. */
export function clock(ms) {
  const date = new Date(ms);
  const two = (number) => String(number).padStart(2, "0");
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":");
  return `${time}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** A duration like `3m 12s`. */
export function duration(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m ${seconds % 60}s`;
  return `${Math.floor(minutes / 60)}h ${minutes % 60}m`;
}

/** JSON with line breaks; any other text, or one that was cut off, as it is. */
export function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** The JSON of a text, or `undefined`. */
export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A request to the stack. Rejects with what the stack says is wrong. */
export async function call(method, path, body) {
  const request = { method };
  if (body !== undefined) {
    request.headers = { "content-type": "application/json" };
    request.body = JSON.stringify(body);
  }
  const response = await fetch(path, request);
  const text = await response.text();
  const answer = parsed(text);
  if (!response.ok) {
    throw new Error(answer?.message ?? answer?.Message ?? (text || `the stack answered ${response.status}`));
  }
  return { answer, isFunctionError: response.headers.has("x-amz-function-error") };
}
