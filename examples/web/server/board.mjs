import { pause } from "./broadcaster.mjs";
import { Refusal } from "./http.mjs";

const CHANNEL = "demo:board";
const HEALTH_MS = 2_000;
const THREAT_MS = 12_000;
const STEP_MS = 2_500;
const KEPT = 6;

const THREATS = [
  { title: "Badge used at two gates at once", source: "Access control", severity: "high" },
  { title: "Sign-ins from a new country", source: "Identity", severity: "medium" },
  { title: "Unknown device on the camera network", source: "Network", severity: "critical" },
  { title: "Unusual number of exports", source: "Data", severity: "low" },
  { title: "Door held open at dock two", source: "Access control", severity: "medium" },
];
const ENCOUNTERS = [
  "Visitor at the north gate",
  "Delivery at dock two",
  "Contractor in room four",
  "Visitor at reception",
];
const SERVICES = ["Gate readers", "Cameras", "Badge sync", "Reports"];

/** What operators watch: a state that changes, each change published after it was made. */
export class Board {
  #broadcaster;
  #signal;
  #revision = 0;
  #made = 0;
  #items = { threats: new Map(), encounters: new Map(), services: new Map() };

  constructor(broadcaster, signal) {
    this.#broadcaster = broadcaster;
    this.#signal = signal;
    // A shift has gone by already.
    for (const status of ["resolved", "resolved", "contained"]) this.#keep("threats", { ...this.#next(), status });
    for (const id of ["E-098", "E-099"]) this.#keep("encounters", { id, title: ENCOUNTERS[0], status: "Done" });
  }

  /** The state now. Each item has a revision, so a page can tell whether a message is older than its snapshot. */
  snapshot() {
    return Object.fromEntries(Object.entries(this.#items).map(([name, items]) => [name, [...items.values()]]));
  }

  /** Generates events until the demo stops. */
  async play() {
    await Promise.all([this.#health(), this.#threats()]);
  }

  /** A threat, which is contained and resolved after a while. */
  raise() {
    const threat = { ...this.#next(), status: "detected" };
    void this.#follow(threat);
    return { id: threat.id };
  }

  async alert({ text }) {
    if (typeof text !== "string" || text.length < 1 || text.length > 200) throw new Refusal(400, "1 to 200 characters");
    await this.#broadcaster.toAll({ kind: "system.alert", text, level: "critical", at: Date.now() });
  }

  #next() {
    this.#made += 1;
    return { id: `T-${100 + this.#made}`, ...THREATS[this.#made % THREATS.length] };
  }

  async #follow(threat) {
    const encounter = { id: `E-${threat.id.slice(2)}`, title: ENCOUNTERS[this.#made % ENCOUNTERS.length] };
    await this.#set("threats", "threat.detected", threat);
    await this.#set("encounters", "encounter.started", { ...encounter, status: "Guard sent" });
    await pause(STEP_MS, this.#signal);
    await this.#set("threats", "threat.updated", { ...threat, status: "contained" });
    await this.#set("encounters", "encounter.updated", { ...encounter, status: "Guard on site" });
    await pause(STEP_MS, this.#signal);
    await this.#set("encounters", "encounter.completed", { ...encounter, status: "Done" });
    await this.#set("threats", "threat.resolved", { ...threat, status: "resolved" });
  }

  async #threats() {
    while (!this.#signal.aborted) {
      this.raise();
      await pause(THREAT_MS, this.#signal);
    }
  }

  async #health() {
    for (let round = 0; !this.#signal.aborted; round += 1) {
      const services = SERVICES.map((id, at) => {
        const load = Math.round(45 + 35 * Math.sin(round / 3 + at * 1.7));
        return { id, load, status: load > 75 ? "busy" : "ok" };
      });
      await this.#set("services", "system.health", ...services);
      await pause(HEALTH_MS, this.#signal);
    }
  }

  async #set(name, kind, ...changed) {
    const sentAt = Date.now();
    const messages = changed.map((item) => ({ kind, ...this.#keep(name, item), sentAt }));
    await this.#broadcaster.toChannel(CHANNEL, ...messages);
  }

  #keep(name, item) {
    this.#revision += 1;
    const known = { ...item, revision: this.#revision };
    const items = this.#items[name];
    items.set(item.id, known);
    if (items.size > KEPT) items.delete(items.keys().next().value);
    return known;
  }
}
