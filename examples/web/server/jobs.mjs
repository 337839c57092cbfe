import { pause } from "./broadcaster.mjs";
import { Refusal } from "./http.mjs";
import { valid } from "./sessions.mjs";

const STEPS = ["Reading the rows", "Checking them", "Computing totals", "Drawing charts", "Writing the report"];
const UPDATES = 20;
const EVERY_MS = 200;
const MOST = 20;

/** Jobs that take a while and tell how far they are. */
export class Jobs {
  #broadcaster;
  #signal;
  #running = new Set();

  constructor(broadcaster, signal) {
    this.#broadcaster = broadcaster;
    this.#signal = signal;
  }

  /** The page chooses the id, so it can listen before the job begins. */
  start({ userId, jobId }) {
    if (typeof jobId !== "string" || !/^[a-z0-9-]{1,40}$/.test(jobId)) throw new Refusal(400, "not a job's id");
    const channel = `demo:job:${valid(userId)}:${jobId}`;
    if (this.#running.size >= MOST) throw new Refusal(429, "too many jobs: wait until one is done");
    if (this.#running.has(channel)) throw new Refusal(409, "the job is running");
    this.#running.add(channel);
    void this.#run(channel).finally(() => this.#running.delete(channel));
  }

  async #run(channel) {
    for (let update = 1; update <= UPDATES; update += 1) {
      await pause(EVERY_MS, this.#signal);
      const step = STEPS[Math.min(STEPS.length - 1, Math.floor((update / UPDATES) * STEPS.length))];
      const percent = (update * 100) / UPDATES;
      await this.#broadcaster.toChannel(channel, { kind: "job.progress", percent, step });
    }
  }
}
