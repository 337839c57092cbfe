import type { ReactNode } from "react";
import { createRoot } from "react-dom/client";
import WebSocket from "ws";
import { HurriedEnvironment } from "../../../typescript/test/support/hurry.js";
import { Network } from "../../../typescript/test/support/network.js";
import type { Stack } from "../../../typescript/test/support/stack.js";
import { WebSocketProvider } from "../../src/index.js";

const tabs: Tab[] = [];

/** A user's page that talks to a real stack, behind a network of its own. */
export class Tab {
  readonly network: Network;
  readonly environment = new HurriedEnvironment();
  readonly #container = document.createElement("div");
  readonly #root = createRoot(this.#container);

  private constructor(network: Network) {
    this.network = network;
  }

  static async open(stack: Stack, user: string, children: ReactNode): Promise<Tab> {
    const tab = new Tab(await Network.to(stack.websocket));
    tabs.push(tab);
    document.body.append(tab.#container);
    const options = { WebSocket: WebSocket as never, environment: tab.environment };
    tab.#root.render(
      <WebSocketProvider url={tab.network.url(stack.websocket)} token={() => stack.token(user)} options={options}>
        {children}
      </WebSocketProvider>,
    );
    return tab;
  }

  text(className: string): string | undefined {
    return this.#container.querySelector(`.${className}`)?.textContent ?? undefined;
  }

  click(name: string): void {
    const buttons = [...this.#container.querySelectorAll("button")];
    buttons.find(({ textContent }) => textContent === name)?.click();
  }

  /** Waits until the page shows a text. */
  async shows(className: string, text: string): Promise<void> {
    await new Promise<void>((resolve) => {
      const check = () => {
        if (this.text(className) !== text) return;
        observer.disconnect();
        resolve();
      };
      const observer = new MutationObserver(check);
      observer.observe(this.#container, { childList: true, characterData: true, subtree: true });
      check();
    });
  }

  close(): void {
    this.#root.unmount();
  }

  static closeAll(): void {
    for (const tab of tabs.splice(0)) {
      tab.close();
      tab.network.close();
    }
  }
}
