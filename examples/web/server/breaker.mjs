import { Refusal } from "./http.mjs";

/** What the page may break. The names are the page's. */
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

  /** The page's faults that are active, and how many times each has struck. */
  async list() {
    const active = await this.#stack.faults();
    return { faults: active.map((fault) => ({ name: nameOf(fault), id: fault.id, struck: fault.struck })) };
  }

  async begin({ name }) {
    if (!Object.hasOwn(FAULTS, name)) throw new Refusal(400, "no such fault");
    await this.#end(name);
    const { id } = await this.#stack.fault(FAULTS[name]);
    return { id };
  }

  async end({ name }) {
    await this.#end(name);
  }

  async drop({ connectionId }) {
    if (typeof connectionId !== "string") throw new Refusal(400, "no connection");
    await this.#stack.drop(connectionId);
  }

  async #end(name) {
    const { faults } = await this.list();
    for (const fault of faults) if (fault.name === name) await this.#stack.endFault(fault.id);
  }
}

function nameOf(active) {
  const isMeant = ([, fault]) => fault.fault === active.fault && fault.function === active.function;
  return Object.entries(FAULTS).find(isMeant)?.[0];
}
