/** An event of a stream of Server-Sent Events. */
export interface StreamEvent {
  readonly id: string;
  readonly data: string;
}

/** Reads the events of a stream. `heard` is called whenever something arrives, comments included. */
export async function* readEvents(
  body: ReadableStream<Uint8Array>,
  heard: () => void,
): AsyncGenerator<StreamEvent, void, undefined> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      text += decoder.decode(value, { stream: true });
      const blocks = text.split("\n\n");
      text = blocks.pop() ?? "";
      for (const block of blocks) {
        const field = (name: string) =>
          block
            .split("\n")
            .find((line) => line.startsWith(`${name}: `))
            ?.slice(name.length + 2);
        const [id, data] = [field("id"), field("data")];
        if (id !== undefined && data !== undefined) yield { id, data };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
