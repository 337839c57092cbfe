import { type ReactElement, useEffect, useRef, useState } from "react";
import { Panel } from "../panel.tsx";
import { act } from "../server.ts";
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
    events.current?.close();
    const jobId = crypto.randomUUID();
    // The browser's EventSource has no headers. The reader's log has no queries.
    const query = new URLSearchParams({
      channel: `demo:job:${session.userId}:${jobId}`,
      token: await session.freshToken(),
    });
    const source = new EventSource(`${session.reader}/events?${query}`);
    events.current = source;
    setProgress({ percent: 0, step: "Waiting for the job…" });
    source.addEventListener("open", () => setIsOpen(true));
    source.addEventListener("error", () => setIsOpen(false));
    // The first time only: a stream ends after a minute, and the browser opens the next one.
    source.addEventListener("subscribed", () => void act("/api/jobs", { userId: session.userId, jobId }), {
      once: true,
    });
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
