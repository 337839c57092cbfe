import type { Random } from "../random.js";

/** What happens to one client. */
export type Mishap =
  /** Its connections break. */
  | "cut"
  /** Its connections carry nothing any more. */
  | "freeze"
  /** Its page becomes visible. */
  | "wake"
  /** Its device has no network, and says so; `back` ends this. */
  | "away"
  | "back"
  /** Its handshakes are refused, but the device knows of no trouble; `back` ends this. */
  | "block"
  /** Minutes pass: the timers of its long waits run. */
  | "age"
  /** The server asks it to move to a new connection. */
  | "handOver"
  /** An operator closes its connection. */
  | "disconnect"
  /** Its user acknowledges what was read. */
  | "ack"
  /** It gets no token; `tokens` ends this. */
  | "noToken"
  /** It gets only expired tokens; `tokens` ends this. */
  | "staleToken"
  | "tokens"
  /** Its page is closed, and another one opened. */
  | "reload";

export type Event =
  | { type: "mishap"; what: Mishap; client: number }
  /** The stack has a fault, for so many steps. */
  | { type: "fault"; spec: object; steps: number }
  /** The history of the last channel loses its oldest messages. */
  | { type: "expire" };

/** A message to publish. Without a client, the server publishes it. */
export interface Publication {
  client?: number;
  channel: number;
  id: string;
}

export interface Step {
  events: Event[];
  publications: Publication[];
  pauseMs: number;
}

const FAULTS = [
  { fault: "function-kill", function: "Default", share: 0.1 },
  { fault: "function-kill", function: "Connect", share: 0.3 },
  { fault: "function-kill", function: "Disconnect", share: 0.5 },
  { fault: "function-kill", function: "Broadcaster", share: 0.3 },
  { fault: "function-kill", function: "Sweeper", share: 0.5 },
  { fault: "function-lose-answer", function: "Default", share: 0.1 },
  { fault: "function-lose-answer", function: "Broadcaster", share: 0.3 },
  { fault: "disconnect-drop", share: 0.5 },
  { fault: "post-410", share: 0.1 },
  { fault: "post-429", share: 0.2 },
  { fault: "post-500", share: 0.2 },
  { fault: "dynamodb-throttle", share: 0.05 },
  { fault: "dynamodb-conflict", share: 0.05 },
];

/** How often each mishap comes, and after how many steps at most the one that ends it. */
const MISHAPS: Array<[Mishap, weight: number, end?: [Mishap, steps: number]]> = [
  ["cut", 5],
  ["freeze", 2],
  ["wake", 2],
  ["away", 3, ["back", 12]],
  ["block", 2, ["back", 12]],
  ["age", 3],
  ["handOver", 4],
  ["disconnect", 1],
  ["ack", 2],
  ["noToken", 1, ["tokens", 20]],
  ["staleToken", 1, ["tokens", 20]],
  ["reload", 1],
];

/** What will happen. Depends on nothing but its source of chance, so a run can be repeated. */
export function plan(random: Random, size: { steps: number; clients: number; channels: number }): Step[] {
  const steps = Array.from({ length: size.steps }, (): Step => ({ events: [], publications: [], pauseMs: 0 }));
  const draw = <T>(list: readonly T[]) => list[random.below(list.length)] as T;
  const mishaps = MISHAPS.flatMap((mishap) => Array.from({ length: mishap[1] }, () => mishap));
  for (const [index, step] of steps.entries()) {
    if (random.chance(0.7)) {
      const [what, , end] = draw(mishaps);
      const client = random.below(size.clients);
      step.events.push({ type: "mishap", what, client });
      const last = end && steps[index + 1 + random.below(end[1])];
      last?.events.push({ type: "mishap", what: end?.[0] as Mishap, client });
    }
    if (random.chance(0.15)) step.events.push({ type: "fault", spec: draw(FAULTS), steps: 1 + random.below(10) });
    if (random.chance(0.1)) step.events.push({ type: "expire" });
    for (let count = random.below(5); count > 0; count -= 1) {
      const client = random.chance(0.2) ? {} : { client: random.below(size.clients) };
      step.publications.push({ ...client, channel: random.below(size.channels), id: `${index}.${count}` });
    }
    step.pauseMs = random.below(300);
  }
  return steps;
}
