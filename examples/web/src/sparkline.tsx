import type { ReactElement } from "react";

const WIDTH = 240;
const HEIGHT = 48;
/** A quiet line should not look like a mountain range. */
const LEAST_MS = 40;

/** The last values as a line. */
export function Sparkline({ values, label }: { values: readonly number[]; label: string }): ReactElement {
  const top = Math.max(LEAST_MS, ...values);
  const points = values.map((value, at) => {
    const x = (at * WIDTH) / Math.max(1, values.length - 1);
    return `${x.toFixed(1)},${(HEIGHT - 2 - (value / top) * (HEIGHT - 4)).toFixed(1)}`;
  });
  return (
    <svg
      className="sparkline"
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={label}
    >
      {points.length > 1 && (
        <>
          <polygon points={`0,${HEIGHT} ${points.join(" ")} ${WIDTH},${HEIGHT}`} />
          <polyline points={points.join(" ")} />
        </>
      )}
    </svg>
  );
}
