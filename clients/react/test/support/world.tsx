import type { TokenReason } from "@belfry/client";
import type { ReactNode } from "react";
import { ManualEnvironment } from "../../../typescript/test/support/clock.js";
import { FakeServer } from "../../../typescript/test/support/server.js";
import { WebSocketProvider, type WebSocketProviderProps } from "../../src/index.js";
import { during } from "./render.js";

/** A server in memory, its time, and providers that connect to it. */
export class World {
  readonly environment = new ManualEnvironment();
  readonly server = new FakeServer(this.environment);
  /** Why each token was asked for. */
  readonly reasons: TokenReason[] = [];
  #notifications = 0;

  readonly options = { environment: this.environment };
  readonly token = ({ reason }: { reason: TokenReason }) => {
    this.reasons.push(reason);
    return `token-${this.reasons.length}`;
  };

  /** Components inside a provider. */
  provide(children: ReactNode, props: Partial<WebSocketProviderProps> = {}): ReactNode {
    const all = { url: "wss://api.example.com/dev", token: this.token, options: this.options, ...props };
    return <WebSocketProvider {...(all as WebSocketProviderProps)}>{children}</WebSocketProvider>;
  }

  /** Sends the user a notification. */
  async notify(data: { kind: string } & Record<string, unknown>, id?: string): Promise<void> {
    this.#notifications += 1;
    const frame = { id: id ?? `n${this.#notifications}`, timestamp: this.server.timestamp(), data };
    await during(() => this.server.post({ type: "notification", version: "1.0", ...frame } as never));
  }

  /** Another user publishes. */
  async publish(channel: string, ...texts: string[]): Promise<void> {
    await during(() => {
      for (const text of texts) this.server.publish(channel, text);
    });
  }

  /** Cuts the connection, and lets the client open another one. */
  async cut(): Promise<void> {
    await during(() => this.server.socket.end());
    await during(() => this.environment.advance(60_000));
  }

  /** Whether the client has left nothing behind. */
  get isQuiet(): boolean {
    const { pendingTimers, pendingWakes } = this.environment;
    return pendingTimers === 0 && pendingWakes === 0 && this.server.open.length === 0;
  }
}
