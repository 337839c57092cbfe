import { useNotification } from "@belfry/react";
import { type DragEvent, type ReactElement, useRef, useState } from "react";
import { Panel } from "../panel.tsx";
import type { Session } from "../session.ts";

interface Upload {
  key: number;
  file: string;
  size: number;
  state: "sending" | "stored" | "told" | "failed";
  uploadId?: string;
  error?: string;
}

const SHOWN = 4;
const STATES: Record<Upload["state"], string> = {
  sending: "Sending…",
  stored: "Stored",
  told: "Stored, and you were told",
  failed: "Failed",
};

/** A REST handler stores a file and tells its owner, wherever the owner is. */
export function UploadsPanel({ session }: { session: Session }): ReactElement {
  const [uploads, setUploads] = useState<readonly Upload[]>([]);
  const [isOver, setIsOver] = useState(false);
  const count = useRef(0);
  // The notification may be faster than the answer to the upload.
  const told = useRef(new Set<string>());
  const input = useRef<HTMLInputElement>(null);

  const change = (isMeant: (upload: Upload) => boolean, changes: Partial<Upload>) =>
    setUploads((all) => all.map((upload) => (isMeant(upload) ? { ...upload, ...changes } : upload)));

  useNotification("upload.completed", ({ id }) => {
    if (id === undefined) return;
    told.current.add(id);
    change(({ uploadId }) => uploadId === id, { state: "told" });
  });

  const send = async (file: File) => {
    count.current += 1;
    const key = count.current;
    setUploads((all) => [{ key, file: file.name, size: file.size, state: "sending" as const }, ...all].slice(0, SHOWN));
    try {
      const uploadId = await upload(session, file);
      change((one) => one.key === key, { uploadId, state: told.current.has(uploadId) ? "told" : "stored" });
    } catch (error) {
      change((one) => one.key === key, { state: "failed", error: (error as Error).message });
    }
  };
  const drop = (event: DragEvent) => {
    event.preventDefault();
    setIsOver(false);
    for (const file of event.dataTransfer.files) void send(file);
  };
  const sample = () => void send(new File(["a,b\n1,2\n".repeat(4_000)], `report-${count.current + 1}.csv`));

  return (
    <Panel
      title="Uploads"
      name="uploads"
      about={
        <>
          The handler of <code>examples/typescript</code> stores a file, then tells its owner.
        </>
      }
    >
      {/* biome-ignore lint/a11y/noStaticElementInteractions: dropping is an extra; the buttons inside do the same */}
      <div
        className={isOver ? "drop drop-over" : "drop"}
        onDragOver={(event) => {
          event.preventDefault();
          setIsOver(true);
        }}
        onDragLeave={() => setIsOver(false)}
        onDrop={drop}
      >
        <button type="button" className="primary" onClick={sample}>
          Upload a sample
        </button>
        <button type="button" onClick={() => input.current?.click()}>
          Choose a file…
        </button>
        <span className="hint">or drop one here, up to 4 MB</span>
        <input
          ref={input}
          type="file"
          hidden
          aria-label="File to upload"
          onChange={({ target }) => {
            for (const file of target.files ?? []) void send(file);
            target.value = "";
          }}
        />
      </div>
      {uploads.length === 0 ? (
        <p className="empty">Nothing yet. The answer comes as a toast, and stays behind the bell.</p>
      ) : (
        <ul className="rows">
          {uploads.map(({ key, file, size, state, error }) => (
            <li key={key} className={`upload upload-${state}`}>
              <span className="grow">
                <strong>{file}</strong> <span className="muted">{sizeOf(size)}</span>
              </span>
              <span className={`tag tag-${state}`}>{error ?? STATES[state]}</span>
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}

async function upload(session: Session, file: File): Promise<string> {
  const response = await fetch(`/api/uploads?${new URLSearchParams({ file: file.name })}`, {
    method: "POST",
    headers: { authorization: `Bearer ${await session.freshToken()}` },
    body: file,
  });
  const body = await response.json();
  if (!response.ok) throw new Error(body.error);
  return body.uploadId;
}

function sizeOf(bytes: number): string {
  return bytes < 1_000_000 ? `${Math.ceil(bytes / 1_000)} KB` : `${(bytes / 1_000_000).toFixed(1)} MB`;
}
