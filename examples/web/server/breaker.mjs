import { Refusal } from "./http.mjs";

/** Faults that the page may start, by its own names. */
const FAULTS = {
  answers: { fault: "function-lose-answer", function: "Broadcaster", times: 3 },
  kill: { fault: "function-kill", function: "Broadcaster", times: 3 },
  sockets: { fault: "function-kill", function: "Connect" },
};

/** Breaks the stack on demand. */
export class Breaker {
  #stack;

  constructor(stack) {
    this.#stack = stack;
  }

  /** The page's faults that strike again, and how many times each has struck. */
  async list() {
    const begun = await this.#stack.faults();
    const active = begun.filter(({ times, struck }) => times === undefined || struck < times);
    return { faults: active.map((fault) => ({ name: nameOf(fault), struck: fault.struck })) };
  }

  async begin({ name }) {
    if (!Object.hasOwn(FAULTS, name)) throw new Refusal(400, "no such fault");
    await this.#end(name);
    await this.#stack.fault(FAULTS[name]);
  }

  async end({ name }) {
    await this.#end(name);
  }

  async drop({ connectionId }) {
    if (typeof connectionId !== "string") throw new Refusal(400, "no connection");
    await this.#stack.drop(connectionId);
  }

  async #end(name) {
    const begun = await this.#stack.faults();
    for (const fault of begun) if (nameOf(fault) === name) await this.#stack.endFault(fault.id);
  }
}

function nameOf(begun) {
  const isMeant = ([, fault]) => fault.fault === begun.fault && fault.function === begun.function;
  return Object.entries(FAULTS).find(isMeant)?.[0];
}
