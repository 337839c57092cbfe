// A quote for a car's insurance: its fields, its premium, and how it is edited.

const between = (least, most) => (value) => Number.isInteger(value) && value >= least && value <= most;
const oneOf = (...values) => (value) => values.includes(value);

/** What clients may set. The premium is not among it. */
const FIELDS = {
  driverAge: between(18, 99),
  carValue: between(500, 200_000),
  excess: oneOf(0, 150, 300, 500),
  cover: oneOf("liability", "full"),
};

const NEW = withPremium({ version: 0, driverAge: 40, carValue: 20_000, excess: 300, cover: "full" });

/** A year's premium in cents. */
function premiumOf({ driverAge, carValue, excess, cover }) {
  const base = 24_000 + (cover === "full" ? carValue * 2 : 0);
  const age = driverAge < 25 ? 1.6 : driverAge >= 70 ? 1.3 : 1;
  return Math.round(base * age * (1 - excess / 2_500));
}

function withPremium(quote) {
  return { ...quote, premium: premiumOf(quote) };
}

/** The quotes, in the memory of this process: enough to try it out. Use a table instead. */
export class Quotes {
  #quotes = new Map();

  get(id) {
    return this.#quotes.get(id) ?? NEW;
  }

  /**
   * Sets fields of the version that the client has seen. With DynamoDB, this is one PutItem on
   * condition that `version` is still the one that was read.
   */
  edit(id, version, set) {
    const quote = this.get(id);
    const wrong = Object.keys(set).filter((field) => !Object.hasOwn(FIELDS, field) || !FIELDS[field](set[field]));
    if (wrong.length > 0) return { ok: false, reason: "invalid", fields: wrong, quote };
    if (version !== quote.version) return { ok: false, reason: "conflict", quote };
    const edited = withPremium({ ...quote, ...set, version: version + 1 });
    this.#quotes.set(id, edited);
    return { ok: true, quote: edited };
  }
}
