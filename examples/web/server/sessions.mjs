import { randomUUID } from "node:crypto";
import { pause } from "./broadcaster.mjs";
import { Refusal } from "./http.mjs";

const USER = /^(alice|bob|guest-\d{1,6})$/;
const TOKEN_SECONDS = 900;
const SHORT_SECONDS = 4;
/** A sign-out also voids the tokens of the next five seconds, because clocks differ. */
const VOID_MS = 6_000;

/**
 * Users and their tokens: the part that a login page and Cognito have elsewhere. Any page of the demo may be any user, so
 * this is for one machine only.
 */
export class Sessions {
  #stack;
  #signal;
  /** Another one after a restart: then pages reload, because revisions and ids have begun again. */
  #run = randomUUID();
  #users = new Set();
  /** When a user who was signed out gets a token again. */
  #validFrom = new Map();

  constructor(stack, signal) {
    this.#stack = stack;
    this.#signal = signal;
  }

  /** A tab's user, who stays the same when the tab is reloaded. */
  async begin({ userId = this.#next() }) {
    const { websocket, reader, console } = this.#stack.urls;
    this.#users.add(valid(userId));
    return { userId, run: this.#run, websocket, reader, console };
  }

  /** In a body, because URLs are logged in many places. */
  async token({ userId, isShort = false }) {
    const wait = (this.#validFrom.get(userId) ?? 0) - Date.now();
    if (wait > 0) await pause(wait, this.#signal);
    const token = await this.#stack.token(valid(userId), isShort === true ? SHORT_SECONDS : TOKEN_SECONDS);
    return { token, run: this.#run };
  }

  /** Closes every connection of the user, and voids every token. */
  async end({ userId }) {
    await this.#stack.invoke("Operator", { action: "signOut", userId: valid(userId) });
    this.#validFrom.set(userId, Date.now() + VOID_MS);
  }

  #next() {
    // A tab that was open during a restart comes back as the user that it was.
    for (let number = 1; ; number += 1) {
      const name = ["alice", "bob"][number - 1] ?? `guest-${number}`;
      if (!this.#users.has(name)) return name;
    }
  }
}

/** The id of a user of the demo. */
export function valid(userId) {
  if (typeof userId !== "string" || !USER.test(userId)) throw new Refusal(400, "no such user");
  return userId;
}
