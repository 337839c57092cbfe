import type { ReactElement } from "react";

const HUES = 6;

/** The same hue for the same user, on every page. */
export function hueOf(userId: string): number {
  let sum = 0;
  for (const letter of userId) sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) % 997;
  return sum % HUES;
}

/** Who somebody is, in a circle. The name stands beside it, or is its title. */
export function Avatar({ userId, label }: { userId: string; label?: string }): ReactElement {
  const digits = /\d+$/.exec(userId)?.[0];
  return (
    <span className={`avatar hue-${hueOf(userId)}`} title={label} aria-hidden={label === undefined ? true : undefined}>
      <span aria-hidden="true">{digits ? `g${digits}` : userId.slice(0, 1).toUpperCase()}</span>
      {label && <span className="hidden">{label}</span>}
    </span>
  );
}
