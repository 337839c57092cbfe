/** What was published, what of it was acknowledged, and what anybody was told. */
export class Ledger {
  #published = 0;
  /** The acknowledged messages by id: each one's log and position. */
  #acknowledged = new Map();
  /** How often a promise of `publish` or `lock` was broken, by code. */
  #refused = new Map();
  /** By log: the id at each position. */
  #told = new Map();
  /** Each time that a client got a lock. */
  #grants = [];

  published() {
    this.#published += 1;
  }

  acknowledged(id, log, position) {
    this.#acknowledged.set(id, { id, log, ...position });
  }

  refused(error) {
    const code = error.code ?? String(error);
    this.#refused.set(code, (this.#refused.get(code) ?? 0) + 1);
  }

  /** A client was told of a message. Returns what is wrong with that. */
  told(log, { epoch, seq }, id) {
    if (!this.#told.has(log)) this.#told.set(log, new Map());
    const ids = this.#told.get(log);
    const place = `${epoch}#${seq}`;
    const other = ids.get(place) ?? id;
    ids.set(place, id);
    return other === id ? undefined : `${log} ${place} is ${other} for another client, and ${id} here`;
  }

  /** A client has got a lock. Returns a function that says when it no longer believes so. */
  granted(grant) {
    const granted = { ...grant, from: Math.round(performance.now()) };
    this.#grants.push(granted);
    return () => {
      granted.to ??= Math.round(performance.now());
    };
  }

  counts() {
    return {
      published: this.#published,
      acknowledged: this.#acknowledged.size,
      locked: this.#grants.length,
      refused: Object.fromEntries(this.#refused),
    };
  }

  verdict() {
    const told = [...this.#told].map(([log, ids]) => ({ log, ids: Object.fromEntries(ids) }));
    return { ...this.counts(), acknowledgedMessages: [...this.#acknowledged.values()], told, grants: this.#grants };
  }
}
