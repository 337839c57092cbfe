import { useCallback, useEffect, useState } from "react";
import { journal } from "./journal.ts";
import { act, get } from "./server.ts";

/** What the server breaks: see `server/breaker.mjs`. */
export type FaultName = "answers" | "kill" | "sockets";

interface Active {
  name?: FaultName;
  struck: number;
}

type Struck = Partial<Record<FaultName, number>>;

const POLL_MS = 1_000;

/** The faults that are active, and how many times each has struck. */
export function useFaults(): {
  struck: Struck;
  begin(name: FaultName): Promise<void>;
  end(name: FaultName): Promise<void>;
} {
  const [struck, setStruck] = useState<Struck>({});
  const read = useCallback(async () => {
    const { faults } = await get<{ faults: Active[] }>("/api/faults");
    setStruck(Object.fromEntries(faults.flatMap(({ name, struck }) => (name ? [[name, struck]] : []))));
  }, []);
  const isAny = Object.keys(struck).length > 0;
  useEffect(() => {
    if (!isAny) return undefined;
    // The page may be cut off from its server, too.
    const timer = setInterval(() => read().catch(() => {}), POLL_MS);
    return () => clearInterval(timer);
  }, [isAny, read]);
  useEffect(() => {
    read().catch(() => {});
  }, [read]);

  const tell = async (path: string, name: FaultName, text: string) => {
    journal.add(text);
    await act(path, { name });
    await read().catch(() => {});
  };
  return {
    struck,
    begin: (name) => tell("/api/faults", name, BEGUN[name]),
    end: (name) => tell("/api/faults/end", name, "WebSockets work again"),
  };
}

const BEGUN: Record<FaultName, string> = {
  answers: "The next three answers of Broadcaster are lost: the server repeats, and nobody sees a message twice",
  kill: "Broadcaster dies three times before its work: the server repeats, and nothing is lost",
  sockets: "Connect dies at each handshake: after three, the client changes to HTTP",
};
