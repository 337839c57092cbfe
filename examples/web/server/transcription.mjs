import { pause } from "./broadcaster.mjs";

const TEXT = `Handover, night shift to day shift. The north gate was opened twice after midnight, both times by the \
cleaning crew, and both entries match the roster. Around three, the reader at dock two lost its link for eleven \
minutes. It queued forty badges and sent all of them in order when the link came back, so nothing is missing from the \
log. One visitor is still in the building: room four, with an escort. The generator test is at ten. Please tell the \
tenants before it starts.`;
const WORDS_PER_CHUNK = 3;
const EVERY_MS = 180;
const CHANNEL = "demo:transcription";

/** A speech that is transcribed while it is held. Everybody listens to the same one. */
export class Transcription {
  #broadcaster;
  #signal;
  #state = { id: 0, isRunning: false, percent: 0, chunks: [] };

  constructor(broadcaster, signal) {
    this.#broadcaster = broadcaster;
    this.#signal = signal;
  }

  /** For a page that comes in the middle. */
  snapshot() {
    return this.#state;
  }

  start() {
    if (!this.#state.isRunning) {
      this.#state = { id: this.#state.id + 1, isRunning: true, percent: 0, chunks: [] };
      void this.#run(this.#state);
    }
    return { id: this.#state.id };
  }

  async #run(state) {
    const { id } = state;
    const words = TEXT.split(" ");
    for (let at = 0; at < words.length; at += WORDS_PER_CHUNK) {
      await pause(EVERY_MS, this.#signal);
      const text = words.slice(at, at + WORDS_PER_CHUNK).join(" ");
      const index = state.chunks.push(text) - 1;
      await this.#publish({ kind: "transcription.chunk", id, index, text });
      state.percent = Math.round((Math.min(words.length, at + WORDS_PER_CHUNK) * 100) / words.length);
      if (index % 4 === 3) await this.#publish({ kind: "transcription.progress", id, percent: state.percent });
    }
    state.isRunning = false;
    await this.#publish({ kind: "transcription.complete", id, words: words.length });
  }

  #publish(data) {
    return this.#broadcaster.toChannel(CHANNEL, data);
  }
}
