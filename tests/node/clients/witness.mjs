const same = (one, other) => one?.epoch === other?.epoch && one?.seq === other?.seq;

/** Checks that a client delivers each message of a log once and in order, or says what is lost. */
export class Witness {
  /** Up to where the client has delivered or reported everything. */
  position;
  /** The id of the last message. */
  last;
  delivered = 0;
  losses = [];
  wrong = [];

  constructor(channel, log, who, ledger) {
    this.channel = channel;
    this.log = log;
    this.who = who;
    channel.on("message", (message) => this.#message(message, ledger));
    channel.on("lost", (lost) => this.#lost(lost));
  }

  /** The server has subscribed the client. */
  begun() {
    this.position ??= this.channel.position;
  }

  #message({ id, position }, ledger) {
    if (!position) return this.wrong.push(`${this.who}: ${id} has no position in ${this.log}`);
    // The first message may come with the answer that says where the subscription begins.
    this.position ??= { epoch: position.epoch, seq: position.seq - 1 };
    const { epoch, seq } = this.position;
    // Before the first message, the epoch of a log is a provisional one.
    if ((position.epoch !== epoch && seq > 0) || position.seq !== seq + 1) {
      this.wrong.push(`${this.who}: ${this.log} ${position.epoch}#${position.seq} after ${epoch}#${seq}`);
    }
    this.position = position;
    this.last = id;
    this.delivered += 1;
    const wrong = ledger.told(this.log, position, id);
    if (wrong) this.wrong.push(`${this.who}: ${wrong}`);
  }

  #lost({ reason, from, to }) {
    if (!same(from, this.position)) {
      this.wrong.push(`${this.who}: ${this.log} lost from ${JSON.stringify(from)} at ${JSON.stringify(this.position)}`);
    }
    this.losses.push({ reason, from, to });
    this.position = to;
  }

  verdict() {
    const { log, position, losses } = this;
    return { log, position, losses };
  }
}
