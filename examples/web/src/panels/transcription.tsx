import type { Message } from "@belfry/client";
import { useChannel } from "@belfry/react";
import { type ReactElement, useEffect, useReducer, useRef } from "react";
import { arrivals } from "../arrivals.ts";
import { Panel } from "../panel.tsx";
import { act } from "../server.ts";
import { useSnapshot } from "../use-snapshot.ts";

interface Transcript {
  id: number;
  isRunning: boolean;
  percent: number;
  chunks: readonly string[];
}

const EMPTY: Transcript = { id: 0, isRunning: false, percent: 0, chunks: [] };

/** A speech, word by word. */
export function TranscriptionPanel(): ReactElement {
  const [{ id, isRunning, percent, chunks }, apply] = useReducer(next, EMPTY);
  const { status } = useChannel("demo:transcription", {
    limit: 0,
    onMessage: (message) => {
      apply(message);
      arrivals.add(message);
    },
    onLost: () => read(),
  });
  const end = useRef<HTMLElement>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: each chunk makes the text longer
  useEffect(() => {
    // It returns a promise in new browsers, and an effect may return only a function.
    void end.current?.scrollTo({ top: end.current.scrollHeight });
  }, [chunks]);
  const read = useSnapshot<Transcript>("/api/transcription", status === "subscribed", apply);
  return (
    <Panel
      title="Transcription"
      name="transcription"
      about="Streams in while somebody speaks. Break the connection: no word is missing after it."
      aside={
        <button type="button" disabled={isRunning} onClick={() => void act("/api/transcription")}>
          {id === 0 ? "Start" : isRunning ? "Listening…" : "Once more"}
        </button>
      }
    >
      {id === 0 ? (
        <p className="empty">Start it here, and watch it in another window, too.</p>
      ) : (
        <>
          <progress max={100} value={percent} aria-label="Transcribed" />
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
          <section ref={end} className="transcript" aria-label="Transcript" tabIndex={0}>
            <p className={isRunning ? "transcript-running" : ""} data-testid="transcript">
              {chunks.join(" ")}
            </p>
          </section>
          <p className="muted" role="status">
            {isRunning ? "Transcribing…" : `Complete: ${chunks.join(" ").split(" ").length} words`}
          </p>
        </>
      )}
    </Panel>
  );
}

function next(state: Transcript, change: Transcript | Message): Transcript {
  if (!("kind" in change)) {
    if (change.id !== state.id) return change.id > state.id ? change : state;
    // Words that were spoken after the snapshot may have come before it.
    const chunks = [...change.chunks];
    state.chunks.forEach((text, index) => {
      chunks[index] = text;
    });
    const percent = Math.max(change.percent, state.percent);
    return { ...state, chunks, percent, isRunning: change.isRunning && state.isRunning };
  }
  const { id } = change.data as { id: number };
  if (id < state.id) return state;
  const before = id > state.id ? { ...EMPTY, id, isRunning: true } : state;
  switch (change.kind) {
    case "transcription.chunk": {
      const { index, text } = change.data as { index: number; text: string };
      const chunks = [...before.chunks];
      chunks[index] = text;
      return { ...before, chunks };
    }
    case "transcription.progress":
      return { ...before, percent: (change.data as { percent: number }).percent };
    case "transcription.complete":
      return { ...before, percent: 100, isRunning: false };
    default:
      return before;
  }
}
