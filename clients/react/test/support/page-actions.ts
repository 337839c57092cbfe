import axe from "axe-core";
import { during } from "./render.js";

/** Presses a key where the focus is. */
export function press(key: string): Promise<void> {
  const target = document.activeElement ?? document.body;
  return during(() => target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true })));
}

export function click(element: Element | null | undefined): Promise<void> {
  return during(() => {
    (element as HTMLElement).focus();
    (element as HTMLElement).click();
  });
}

/** Clicks with a pointer, which gives the element the focus. */
export function pointAndClick(element: Element | null | undefined): Promise<void> {
  return during(() => {
    (element as HTMLElement).focus();
    element?.dispatchEvent(new MouseEvent("click", { bubbles: true, detail: 1 }));
  });
}

export function focus(element: Element | null | undefined): Promise<void> {
  return during(() => (element as HTMLElement).focus());
}

/** Moves the pointer on an element, or away from it. */
export function point(type: "mousemove" | "mouseout", element: Element | null | undefined): Promise<void> {
  return during(() => element?.dispatchEvent(new MouseEvent(type, { bubbles: true, relatedTarget: document.body })));
}

/** Rules that need a browser that paints, or a whole page. */
const OTHERS = ["color-contrast", "label-content-name-mismatch", "region"];

/** What axe finds in the page. */
export async function findings(): Promise<string[]> {
  const rules = Object.fromEntries(OTHERS.map((rule) => [rule, { enabled: false }]));
  const { violations } = await axe.run(document.body, { rules });
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
}
