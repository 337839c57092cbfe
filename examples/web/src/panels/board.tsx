import type { Message } from "@belfry/client";
import { useChannel, useNotification } from "@belfry/react";
import { type ReactElement, useReducer, useState } from "react";
import { arrivals } from "../arrivals.ts";
import type { Encounter, Service, Threat } from "../kinds.ts";
import { Panel } from "../panel.tsx";
import { act } from "../server.ts";
import { useSnapshot } from "../use-snapshot.ts";

interface State {
  threats: readonly Threat[];
  encounters: readonly Encounter[];
  services: readonly Service[];
}

interface Item {
  readonly id: string;
  readonly revision: number;
}

const EMPTY: State = { threats: [], encounters: [], services: [] };
const SHOWN = 5;

/** What operators watch. */
export function BoardPanel(): ReactElement {
  const [state, apply] = useReducer(merge, EMPTY);
  const [alert, setAlert] = useState<string>();
  const channel = useChannel("demo:board", {
    limit: 0,
    onMessage: (message) => {
      apply(changeOf(message));
      arrivals.add(message);
    },
    onLost: () => read(),
  });
  const read = useSnapshot<State>("/api/board", channel.status === "subscribed", apply);
  useNotification("system.alert", ({ data }) => setAlert(data.text));

  const threats = state.threats.toSorted(byNewest).slice(0, SHOWN);
  const encounters = state.encounters.toSorted(byNewest).slice(0, 3);
  const open = state.threats.filter(({ status }) => status !== "resolved").length;

  return (
    <Panel
      title="Operations"
      name="board"
      about="Everybody sees the same board. Servers alone may publish here."
      aside={
        <span className="actions">
          <button type="button" onClick={() => void act("/api/board/threats")}>
            Raise a threat
          </button>
          <button
            type="button"
            onClick={() => void act("/api/board/alerts", { text: "Evacuation drill at noon: all gates will open." })}
          >
            Alert everyone
          </button>
        </span>
      }
    >
      {alert && (
        <p className="alert">
          <strong>Alert</strong>
          <span className="grow">{alert}</span>
          <button type="button" className="quiet" onClick={() => setAlert(undefined)}>
            Dismiss
          </button>
        </p>
      )}
      <div className="health">
        {state.services.map(({ id, load, status }) => (
          <div key={id} className={`service service-${status}`}>
            <span className="service-name">{id}</span>
            <span className="service-load">
              {load} <small>% {status}</small>
            </span>
            <span className="track">
              <span className="load" style={{ inlineSize: `${load}%` }} />
            </span>
          </div>
        ))}
      </div>
      <div className="columns">
        <div>
          <h3>
            Threats <span className="count">{open} open</span>
          </h3>
          <ul className="rows" data-testid="threats">
            {threats.map(({ id, title, source, severity, status }) => (
              <li key={id} className={`threat threat-${status}`}>
                <span className={`severity severity-${severity}`}>{severity}</span>
                <span className="grow">
                  <strong>{title}</strong>
                  <span className="muted">
                    {id}, {source}
                  </span>
                </span>
                <span className={`tag tag-${status}`}>{status}</span>
              </li>
            ))}
          </ul>
        </div>
        <div>
          <h3>Encounters</h3>
          <ul className="rows">
            {encounters.map(({ id, title, status }) => (
              <li key={id} className="encounter">
                <span className="grow">
                  <strong>{title}</strong>
                  <span className="muted">{id}</span>
                </span>
                <span className="tag">{status}</span>
              </li>
            ))}
          </ul>
        </div>
      </div>
    </Panel>
  );
}

function changeOf({ kind, data }: Message): Partial<State> {
  if (kind.startsWith("threat.")) return { threats: [data as Threat] };
  if (kind.startsWith("encounter.")) return { encounters: [data as Encounter] };
  if (kind === "system.health") return { services: [data as Service] };
  return {};
}

function merge(state: State, change: Partial<State>): State {
  return {
    threats: newer(state.threats, change.threats),
    encounters: newer(state.encounters, change.encounters),
    services: newer(state.services, change.services),
  };
}

/** The newest of each. A snapshot may be older than messages that have come already. */
function newer<T extends Item>(known: readonly T[], changed: readonly T[] = []): readonly T[] {
  const items = new Map(known.map((item) => [item.id, item]));
  for (const item of changed) {
    const before = items.get(item.id);
    if (!before || before.revision < item.revision) items.set(item.id, item);
  }
  return [...items.values()].slice(-20);
}

function byNewest(left: Item, right: Item): number {
  return right.id.localeCompare(left.id, undefined, { numeric: true });
}
