import { act, type ReactNode } from "react";
import { createRoot, hydrateRoot } from "react-dom/client";
import { settle } from "../../../typescript/test/support/clock.js";

(globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;

export interface Rendered {
  readonly container: HTMLElement;
  rerender(node: ReactNode): Promise<void>;
  unmount(): Promise<void>;
}

const roots: Rendered[] = [];

/** Shows something, and lets everything run that waits only for promises. */
export async function render(node: ReactNode): Promise<Rendered> {
  const container = document.createElement("div");
  document.body.append(container);
  const root = createRoot(container);
  return await show(
    container,
    node,
    (next) => root.render(next),
    () => root.unmount(),
  );
}

/** Hydrates what a server has rendered. Returns what React reports, too. */
export async function hydrate(html: string, node: ReactNode): Promise<Rendered & { errors: unknown[] }> {
  const container = document.createElement("div");
  container.innerHTML = html;
  document.body.append(container);
  const errors: unknown[] = [];
  let root: ReturnType<typeof hydrateRoot>;
  const rendered = await show(
    container,
    node,
    (next) => {
      root = hydrateRoot(container, next, { onRecoverableError: (error) => errors.push(error) });
    },
    () => root.unmount(),
  );
  return { ...rendered, errors };
}

async function show(
  container: HTMLElement,
  node: ReactNode,
  draw: (node: ReactNode) => void,
  end: () => void,
): Promise<Rendered> {
  const rendered: Rendered = {
    container,
    rerender: (next) => during(() => draw(next)),
    unmount: async () => {
      roots.splice(roots.indexOf(rendered), 1);
      await during(end);
      container.remove();
    },
  };
  roots.push(rendered);
  await rendered.rerender(node);
  return rendered;
}

/** Does something, and lets the components follow. */
export async function during(change: () => unknown): Promise<void> {
  await act(async () => {
    await change();
    await settle();
  });
}

/** Unmounts everything. */
export async function cleanUp(): Promise<void> {
  for (const rendered of [...roots]) await rendered.unmount();
}
