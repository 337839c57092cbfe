import WebSocket from "ws";
import type { WebSocketConstructor } from "../../../src/index.js";

/** Makes the sockets of one client, and knows which of them it has let go. */
export class Sockets {
  readonly WebSocket: WebSocketConstructor;
  readonly #sockets = new Set<WebSocket>();

  constructor() {
    const sockets = this.#sockets;
    this.WebSocket = class extends WebSocket {
      constructor(url: string, protocols: string[]) {
        super(url, protocols);
        sockets.add(this);
        this.on("close", () => sockets.delete(this));
      }
    } as unknown as WebSocketConstructor;
  }

  /** The sockets that the client has not closed, or still listens to. */
  get held(): number {
    const isHeld = ({ readyState, onopen, onmessage, onclose }: WebSocket) =>
      readyState === WebSocket.CONNECTING || readyState === WebSocket.OPEN || !!(onopen ?? onmessage ?? onclose);
    return [...this.#sockets].filter(isHeld).length;
  }
}
