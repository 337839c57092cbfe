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
  #users = 0;
  /** When a user who was signed out gets a token again. */
  #validFrom = new Map();

  constructor(stack, signal) {
    this.#stack = stack;
    this.#signal = signal;
  }

  /** A tab's user, who stays the same when the tab is reloaded. */
  async begin({ userId = this.#next() }) {
    const { websocket, reader, console } = this.#stack.urls;
    return { userId: valid(userId), websocket, reader, console };
  }

  /** In a body, because URLs are logged in many places. */
  async token({ userId, isShort = false }) {
    const wait = (this.#validFrom.get(userId) ?? 0) - Date.now();
    if (wait > 0) await pause(wait, this.#signal);
    return { token: await this.#stack.token(valid(userId), isShort === true ? SHORT_SECONDS : TOKEN_SECONDS) };
  }

  /** Closes every connection of the user, and voids every token. */
  async end({ userId }) {
    await this.#stack.invoke("Operator", { action: "signOut", userId: valid(userId) });
    this.#validFrom.set(userId, Date.now() + VOID_MS);
  }

  #next() {
    this.#users += 1;
    return ["alice", "bob"][this.#users - 1] ?? `guest-${this.#users}`;
  }
}

/** The id of a user of the demo. */
export function valid(userId) {
  if (typeof userId !== "string" || !USER.test(userId)) throw new Refusal(400, "no such user");
  return userId;
}
