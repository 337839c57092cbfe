import type { TokenReason } from "@belfry/client";
import { journal } from "./journal.ts";
import { post } from "./server.ts";

interface Begun {
  userId: string;
  run: string;
  websocket: string;
  reader: string;
  console: string;
}

const KEY = "belfry-demo-user";

const REASONS: Record<TokenReason, string> = {
  connect: "to connect",
  expiring: "because the present one ends soon",
  refused: "because the last one was refused",
};

/** This tab's user. In an application, this is Amplify's or your own login. */
export class Session {
  readonly userId: string;
  readonly websocket: string;
  readonly reader: string;
  /** The local stack's own page. */
  readonly console: string;
  readonly #run: string;
  #isNextShort = false;
  /** Until then there is no new token. */
  #withheldUntil = 0;

  constructor({ userId, run, websocket, reader, console }: Begun) {
    this.userId = userId;
    this.#run = run;
    this.websocket = websocket;
    this.reader = reader;
    this.console = console;
  }

  static async begin(): Promise<Session> {
    const userId = sessionStorage.getItem(KEY) ?? undefined;
    const session = new Session(await post<Begun>("/api/session", { userId }));
    sessionStorage.setItem(KEY, session.userId);
    return session;
  }

  /** What {@link Belfry} asks for a token. */
  readonly token = async ({ reason }: { reason: TokenReason }): Promise<string> => {
    if (Date.now() < this.#withheldUntil) throw new Error("the login service is down");
    const isShort = this.#isNextShort;
    this.#isNextShort = false;
    const token = await this.freshToken(isShort);
    if (isShort) this.#withheldUntil = Date.now() + 4_500;
    journal.add(isShort ? "Got a token that ends in 4 seconds" : `Got a token ${REASONS[reason]}`);
    return token;
  };

  async freshToken(isShort = false): Promise<string> {
    const body = { userId: this.userId, isShort };
    const { token, run } = await post<{ token: string; run: string }>("/api/token", body);
    // The server was started anew, and its state with it.
    if (run !== this.#run) location.reload();
    return token;
  }

  /** The next token is short-lived, and cannot be renewed: the server has to end the session. */
  shortenNext(): void {
    this.#isNextShort = true;
  }
}
