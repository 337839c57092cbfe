import { Belfry, type BelfryOptions, type Message, type Status, type TokenReason } from "../../src/index.js";
import { ManualEnvironment, settle } from "./clock.js";
import { FakeServer } from "./server.js";

/** A client, the server that it talks to, and the time of both. */
export interface Setup {
  environment: ManualEnvironment;
  server: FakeServer;
  belfry: Belfry;
  statuses: Status[];
  /** Why each token was asked for. */
  reasons: TokenReason[];
}

/** Makes a client that has not connected yet. */
export function setUp(options: Partial<BelfryOptions> = {}, prepare: (server: FakeServer) => void = () => {}): Setup {
  const environment = new ManualEnvironment();
  const server = new FakeServer(environment);
  prepare(server);
  const reasons: TokenReason[] = [];
  const token: BelfryOptions["token"] = ({ reason }) => {
    reasons.push(reason);
    return `token-${reasons.length}`;
  };
  const belfry = new Belfry({ url: "wss://api.example.com/dev", token, environment, ...options });
  const statuses: Status[] = [];
  belfry.on("status", (status) => statuses.push(status));
  return { environment, server, belfry, statuses, reasons };
}

/** Makes a client and connects it. */
export async function connected(
  options?: Partial<BelfryOptions>,
  prepare?: (server: FakeServer) => void,
): Promise<Setup> {
  const setup = setUp(options, prepare);
  await settle();
  return setup;
}

export function textsOf(messages: Message[]): string[] {
  return messages.map(({ data }) => String((data as { text?: string })?.text));
}
