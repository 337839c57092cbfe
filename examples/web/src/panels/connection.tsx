import { useWebSocket } from "@belfry/react";
import type { ReactElement } from "react";
import { useLatencies } from "../arrivals.ts";
import { journal, useJournal } from "../journal.ts";
import { Panel } from "../panel.tsx";
import { transportOf } from "../recorder.tsx";
import { act } from "../server.ts";
import type { Session } from "../session.ts";
import { Sparkline } from "../sparkline.tsx";
import { useFaults } from "../use-faults.ts";

const time = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

/** What the connection does, and buttons that break it. */
export function ConnectionPanel({ session }: { session: Session }): ReactElement {
  const { status, connect } = useWebSocket();
  const latencies = useLatencies();
  const entries = useJournal();
  const { struck, begin, end } = useFaults();
  const connectionId = status.state === "connected" ? status.connectionId : undefined;
  const isHttp = connectionId?.startsWith("http:") ?? false;

  const drop = async (text: string) => {
    journal.add(text);
    if (connectionId && !isHttp) await act("/api/drop", { connectionId });
  };
  const expire = () => {
    session.shortenNext();
    void drop("The next token ends after 4 seconds, and the login service will be down");
  };
  const block = async () => {
    if (struck.sockets !== undefined) {
      await end("sockets");
      return;
    }
    await begin("sockets");
    await drop("Dropped the socket");
  };
  const isUp = connectionId !== undefined && !isHttp;
  const last = latencies.at(-1);

  return (
    <Panel
      title="Connection"
      name="connection"
      about="Break it, and watch what the page makes of it. Nothing is lost, and nothing comes twice."
    >
      <div className="strip">
        <div className="figures">
          <dl>
            <div>
              <dt>State</dt>
              <dd data-testid="state">{status.state}</dd>
            </div>
            <div>
              <dt>Transport</dt>
              <dd data-testid="transport">{connectionId ? transportOf(connectionId) : "none"}</dd>
            </div>
            <div>
              <dt>Latency</dt>
              <dd>{last === undefined ? "…" : `${last} ms`}</dd>
            </div>
            <div>
              <dt>Median</dt>
              <dd>{latencies.length === 0 ? "…" : `${median(latencies)} ms`}</dd>
            </div>
          </dl>
          <Sparkline values={latencies} label="Latency of the last messages" />
          <p className="muted">From the server that publishes to this page, through the whole stack.</p>
        </div>
        <div className="breakers">
          <h3>Break something</h3>
          <div className="buttons">
            <button type="button" disabled={!isUp} onClick={() => void drop("Dropped the socket")}>
              Drop the socket
            </button>
            <button type="button" disabled={!isUp} onClick={expire}>
              Expire the token
            </button>
            <button type="button" disabled={struck.answers !== undefined} onClick={() => void begin("answers")}>
              {struck.answers === undefined ? "Lose answers" : `Losing answers: ${struck.answers} of 3`}
            </button>
            <button type="button" disabled={struck.kill !== undefined} onClick={() => void begin("kill")}>
              {struck.kill === undefined ? "Kill a function" : `Killing: ${struck.kill} of 3`}
            </button>
            <button type="button" aria-pressed={struck.sockets !== undefined} onClick={() => void block()}>
              Block WebSockets
            </button>
            {status.state === "closed" ? (
              <button type="button" className="primary" onClick={connect}>
                Sign in again
              </button>
            ) : (
              <button type="button" onClick={() => void act("/api/sign-out", { userId: session.userId })}>
                Sign out
              </button>
            )}
          </div>
        </div>
        <div className="log">
          <h3 id="log">Log</h3>
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
          <ol aria-labelledby="log" tabIndex={0}>
            {entries.map(({ id, at, text, tone }) => (
              <li key={id} className={`tone-${tone}`}>
                <time dateTime={at.toISOString()}>{time.format(at)}</time>
                <span>{text}</span>
              </li>
            ))}
          </ol>
        </div>
      </div>
    </Panel>
  );
}

function median(values: readonly number[]): number {
  return values.toSorted((left, right) => left - right)[Math.floor(values.length / 2)] ?? 0;
}
