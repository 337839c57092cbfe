import type { ReactElement } from "react";

/** Line drawings. Each state of the connection has a shape of its own, for those who do not see its colour. */
const PATHS = {
  good: "m2 9 4 4 8-10",
  waiting: "M8 2a6 6 0 1 1-6 6",
  bad: "m3 3 10 10M13 3 3 13",
  bell: "M8 2a4 4 0 0 0-4 4c0 4-2 4-2 6h12c0-2-2-2-2-6a4 4 0 0 0-4-4ZM6 14h4",
};

export function Icon({ name }: { name: keyof typeof PATHS }): ReactElement {
  return (
    <svg className="belfry-icon" viewBox="0 0 16 16" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
