import { type ReactElement, useEffect, useRef, useState } from "react";
import { journal } from "../journal.ts";
import { Panel } from "../panel.tsx";
import { post } from "../server.ts";
import type { Session } from "../session.ts";

interface Progress {
  percent: number;
  step: string;
}

/** A job's progress, over plain Server-Sent Events. */
export function JobPanel({ session }: { session: Session }): ReactElement {
  const [progress, setProgress] = useState<Progress>();
  const [isOpen, setIsOpen] = useState(false);
  const events = useRef<EventSource>(undefined);
  useEffect(() => () => events.current?.close(), []);

  const start = async () => {
    // At once, so that a second click starts no second job.
    setProgress({ percent: 0, step: "Waiting for the job…" });
    const fail = (reason: string) => {
      events.current?.close();
      setIsOpen(false);
      setProgress(undefined);
      journal.add(`The job did not start: ${reason}`, "bad");
    };
    const { userId } = session;
    const jobId = crypto.randomUUID();
    let token: string;
    try {
      token = await session.freshToken();
    } catch (error) {
      fail((error as Error).message);
      return;
    }
    // The browser's EventSource has no headers. The reader's log has no queries.
    const query = new URLSearchParams({ channel: `demo:job:${userId}:${jobId}`, token });
    const source = new EventSource(`${session.reader}/events?${query}`);
    events.current = source;
    source.addEventListener("open", () => setIsOpen(true));
    source.addEventListener("error", () => {
      setIsOpen(false);
      // The browser does not try again after a refusal.
      if (source.readyState === EventSource.CLOSED) fail("its stream was refused");
    });
    // The first time only: a stream ends after a minute, and the browser opens the next one.
    const begin = () => post("/api/jobs", { userId, jobId }).catch(({ message }: Error) => fail(message));
    source.addEventListener("subscribed", () => void begin(), { once: true });
    source.addEventListener("notification", ({ data }: MessageEvent<string>) => {
      const { percent, step }: Progress = JSON.parse(data).data;
      setProgress({ percent, step });
      if (percent < 100) return;
      source.close();
      setIsOpen(false);
    });
  };
  const isDone = progress?.percent === 100;

  return (
    <Panel
      title="A job"
      name="job"
      about={
        <>
          No WebSocket here: the browser's own <code>EventSource</code>, on the function <code>Reader</code>.
        </>
      }
      aside={
        <button type="button" disabled={progress && !isDone} onClick={() => void start()}>
          {isDone ? "Start another" : "Start the job"}
        </button>
      }
    >
      {progress ? (
        <>
          <div className="job">
            <progress max={100} value={progress.percent} aria-label="Progress of the job" />
            <strong className="percent">{progress.percent} %</strong>
          </div>
          <p className="muted" role="status">
            {isDone ? "Done. The stream is closed." : `${progress.step}${isOpen ? "" : " (stream interrupted)"}`}
          </p>
        </>
      ) : (
        <p className="empty">Only you may listen to your job: the channel's rule names the token's user.</p>
      )}
    </Panel>
  );
}
