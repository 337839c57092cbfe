import { useStatus, useWebSocket } from "@belfry/react";
import { useEffect, useRef } from "react";
import { arrivals } from "./arrivals.ts";
import { journal } from "./journal.ts";

/** Writes what happens to the connection into the journal. */
export function Recorder(): null {
  const status = useStatus();
  const { client } = useWebSocket();
  const hasConnected = useRef(false);
  useEffect(() => {
    switch (status.state) {
      case "connected":
        arrivals.connected();
        journal.add(
          `${hasConnected.current ? "Connected again" : "Connected"}, over ${transportOf(status.connectionId)}`,
          "good",
        );
        hasConnected.current = true;
        break;
      case "reconnecting":
      case "offline":
        arrivals.interrupted();
        journal.add(
          `${status.state === "offline" ? "Offline" : "Connection lost"}${because(status.error)}${soon(status.retryInMs)}`,
          "bad",
        );
        break;
      case "closed":
        arrivals.interrupted();
        journal.add(`Closed${because(status.error)}`, "bad");
        break;
    }
  }, [status]);
  useEffect(
    () => client?.on("lost", ({ channel, reason }) => journal.add(`Lost messages of ${channel}: ${reason}`, "bad")),
    [client],
  );
  return null;
}

export function transportOf(connectionId: string): string {
  return connectionId.startsWith("http:") ? "HTTP" : "WebSocket";
}

function because(error: { code: string } | undefined): string {
  return error ? ` (${error.code})` : "";
}

function soon(ms: number | undefined): string {
  return ms === undefined ? "" : `: next attempt in ${(ms / 1_000).toFixed(1)} s`;
}
