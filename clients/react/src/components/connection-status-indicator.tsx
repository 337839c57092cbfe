import type { Status } from "@belfry/client";
import { type ReactElement, useRef } from "react";
import { useSession } from "../context.js";
import { useStatus } from "../use-status.js";
import { Icon } from "./icons.js";

/** The texts of {@link ConnectionStatusIndicator}. */
export type ConnectionStatusLabels = Record<Status["state"] | "reconnect", string>;

/** Props of {@link ConnectionStatusIndicator}. */
export interface ConnectionStatusIndicatorProps {
  /** Other texts, such as translations. */
  labels?: Partial<ConnectionStatusLabels>;
}

const LABELS: ConnectionStatusLabels = {
  connecting: "Connecting",
  connected: "Connected",
  reconnecting: "Reconnecting",
  offline: "Offline",
  closed: "Disconnected",
  reconnect: "Reconnect",
};

/** In the other states, it is worth waiting. */
const TONES: Partial<Record<Status["state"], "good" | "bad">> = { connected: "good", offline: "bad", closed: "bad" };

/** Shows the state of the connection: a word, a shape and a colour. Offers to connect again after it was closed. */
export function ConnectionStatusIndicator({ labels }: ConnectionStatusIndicatorProps): ReactElement {
  const { connect } = useSession();
  const { state } = useStatus();
  const texts = { ...LABELS, ...labels };
  const tone = TONES[state] ?? "waiting";
  const word = useRef<HTMLElement>(null);
  const reconnect = () => {
    // The button goes away, and would take the focus with it.
    word.current?.focus();
    connect();
  };
  return (
    <span className="belfry-status" data-tone={tone}>
      <span ref={word} className="belfry-state" role="status" tabIndex={-1}>
        <Icon name={tone} />
        <span>{texts[state]}</span>
      </span>
      {state === "closed" && (
        <button type="button" className="belfry-button" onClick={reconnect}>
          {texts.reconnect}
        </button>
      )}
    </span>
  );
}
