import type { BelfryError, PresentUser } from "@belfry/client";
import { useCall, useChannel, usePresence, useStatus } from "@belfry/react";
import { type ReactElement, useCallback, useEffect, useRef, useState } from "react";
import { arrivals } from "../arrivals.ts";
import { Avatar } from "../avatar.tsx";
import type { Quote, QuoteField } from "../kinds.ts";
import { Panel } from "../panel.tsx";
import type { Session } from "../session.ts";
import { Field } from "./field.tsx";

const ID = "q-1";
const CHANNEL = `demo:quote:${ID}`;
const ATTEMPTS = 3;
const AVATARS = 5;
const CHANGES = 3;

const LABELS: Record<QuoteField, string> = {
  driverAge: "driver's age",
  carValue: "car's value",
  excess: "excess",
  cover: "cover",
};
const money = new Intl.NumberFormat("en", { style: "currency", currency: "EUR" });
const whole = new Intl.NumberFormat("en", { style: "currency", currency: "EUR", maximumFractionDigits: 0 });

interface Change {
  version: number;
  text: string;
  premium: number;
}

/** A quote that several people edit, each one field at a time. */
export function QuotePanel({ session }: { session: Session }): ReactElement {
  const [quote, setQuote] = useState<Quote>();
  const [note, setNote] = useState("Change a field: everybody's premium follows.");
  const call = useCall();
  const status = useStatus();
  const [changes, setChanges] = useState<readonly Change[]>([]);
  const version = useRef(-1);

  const show = useCallback((newer: Quote) => {
    if (newer.version <= version.current) return;
    version.current = newer.version;
    setQuote(newer);
  }, []);
  const nameOf = (userId: string) => (userId === session.userId ? "You" : userId);
  const list = ({ version, premium }: Quote, by: string, fields: QuoteField[]) =>
    setChanges((all) => [{ version, text: `${nameOf(by)}: ${namesOf(fields)}`, premium }, ...all].slice(0, CHANGES));
  const read = useCallback(async () => {
    try {
      const result = await call("quote.get", { id: ID });
      if (result.ok) show(result.quote);
    } catch (error) {
      setNote(failure(error as BelfryError));
    }
  }, [call, show]);

  const channel = useChannel(CHANNEL, {
    limit: 0,
    locks: true,
    onMessage: (message) => {
      arrivals.add(message);
      if (message.kind !== "quote.changed") return;
      const {
        quote: changed,
        changed: fields,
        by,
      } = message.data as { quote: Quote; changed: QuoteField[]; by: string };
      show(changed);
      list(changed, by, fields);
      setNote(`${nameOf(by)} changed the ${namesOf(fields)}.`);
    },
    onLost: () => void read(),
  });
  const isReady = channel.status === "subscribed" && status.state === "connected";
  const isHttp = status.state === "connected" && status.connectionId.startsWith("http:");
  useEffect(() => {
    if (isReady && !isHttp && version.current < 0) void read();
  }, [isReady, isHttp, read]);
  const { members } = usePresence(CHANNEL, { name: session.userId });
  const isMe = ({ userId }: PresentUser) => userId === session.userId;
  const shown = [...members.filter(isMe), ...members.filter((user) => !isMe(user))].slice(0, AVATARS);

  const edit = async (set: Partial<Quote>) => {
    try {
      for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
        const result = await call("quote.edit", { id: ID, version: version.current, set });
        if (result.quote) show(result.quote);
        if (result.ok) {
          list(result.quote, session.userId, Object.keys(set) as QuoteField[]);
          setNote("Saved, and told to everybody else.");
          return;
        }
        // Somebody has changed another field: this one is locked. So set it in the newer version.
        if (result.reason !== "conflict") break;
      }
      setNote("Not saved: the value is not allowed, or others were faster.");
    } catch (error) {
      setNote(failure(error as BelfryError));
    }
  };
  const common = { channel: CHANNEL, userId: session.userId, isOff: !isReady || isHttp };

  return (
    <Panel
      title="A quote"
      name="quote"
      about="Edited together: presence, a lock for each field, and a premium that a function of yours calculates."
      aside={
        <ul className="avatars" aria-label="Who is here">
          {shown.map(({ userId }) => (
            <li key={userId}>
              <Avatar userId={userId} label={userId === session.userId ? `${userId} (you)` : userId} />
            </li>
          ))}
          {members.length > AVATARS && <li className="more">and {members.length - AVATARS} more</li>}
        </ul>
      }
    >
      <p className="premium">
        <span className="muted">Premium per year</span>
        <output data-testid="premium" key={quote?.version}>
          {quote ? money.format(quote.premium / 100) : "…"}
        </output>
      </p>
      {quote && (
        <div className="fields">
          <Field
            {...common}
            field="driverAge"
            label="Driver's age"
            value={quote.driverAge}
            save={(driverAge) => edit({ driverAge })}
          >
            {({ value, change, ...control }) => (
              <input
                {...control}
                type="number"
                min={18}
                max={99}
                value={value}
                onChange={({ target }) => change(target.valueAsNumber)}
              />
            )}
          </Field>
          <Field {...common} field="excess" label="Excess" value={quote.excess} save={(excess) => edit({ excess })}>
            {({ value, change, ...control }) => (
              <select {...control} value={value} onChange={({ target }) => change(Number(target.value))}>
                {[0, 150, 300, 500].map((excess) => (
                  <option key={excess} value={excess}>
                    {whole.format(excess)}
                  </option>
                ))}
              </select>
            )}
          </Field>
          <Field {...common} field="cover" label="Cover" value={quote.cover} save={(cover) => edit({ cover })}>
            {({ value, change, ...control }) => (
              <select {...control} value={value} onChange={({ target }) => change(target.value as Quote["cover"])}>
                <option value="liability">Liability</option>
                <option value="full">Full</option>
              </select>
            )}
          </Field>
          <Field
            {...common}
            field="carValue"
            label={`Car's value: ${whole.format(quote.carValue)}`}
            value={quote.carValue}
            save={(carValue) => edit({ carValue })}
          >
            {({ value, change, ...control }) => (
              <input
                {...control}
                type="range"
                min={500}
                max={100_000}
                step={500}
                value={value}
                aria-valuetext={whole.format(value)}
                onChange={({ target }) => change(target.valueAsNumber)}
              />
            )}
          </Field>
        </div>
      )}
      <p className="muted" role="status">
        {isHttp ? "Over HTTP there are no calls and no locks: editing waits for a WebSocket." : note}
      </p>
      {changes.length > 0 && (
        <ul className="changes" aria-label="Last changes">
          {changes.map(({ version, text, premium }) => (
            <li key={version}>
              <span>{text}</span>
              <span>{money.format(premium / 100)}</span>
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}

function namesOf(fields: QuoteField[]): string {
  return fields.map((field) => LABELS[field]).join(", ");
}

function failure({ code }: BelfryError): string {
  return code === "DISCONNECTED" ? "Not connected: try again in a moment." : `That failed (${code}): try again.`;
}
