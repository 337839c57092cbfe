/** The outside world: time, chance, the network. Tests pass in their own. */
export interface Environment {
  /** Milliseconds from any origin. Only differences count. */
  now(): number;
  setTimeout(callback: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  /** A number of at least 0 and less than 1. */
  random(): number;
  /** A new id of 1 to 128 visible ASCII characters. */
  randomId(): string;
  /** `undefined` if the runtime has none: pass one in, such as the one of the package `ws`. */
  readonly WebSocket: WebSocketConstructor | undefined;
  /** `false` if the runtime knows that there is no network. */
  isOnline(): boolean;
  /**
   * Calls back whenever the network may have changed or timers may have slept: the page becomes visible, the browser
   * goes offline or online. Returns a function that ends this.
   */
  onWake(callback: () => void): () => void;
}

/** The part of the standard `WebSocket` that the client uses. */
export interface WebSocketLike {
  onopen: ((event: never) => unknown) | null;
  onmessage: ((event: never) => unknown) | null;
  onclose: ((event: never) => unknown) | null;
  onerror: ((event: never) => unknown) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

/** The standard constructor `WebSocket`, or another implementation of it. */
export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike;

/** The environment of a browser, or of Node. */
export function defaultEnvironment(): Environment {
  const { WebSocket, document, navigator } = globalThis as Partial<typeof globalThis>;
  return {
    now: () => performance.now(),
    setTimeout: (callback, ms) => setTimeout(callback, ms),
    clearTimeout: (timer) => clearTimeout(timer as number),
    random: Math.random,
    randomId,
    WebSocket: WebSocket as WebSocketConstructor | undefined,
    isOnline: () => navigator?.onLine !== false,
    onWake(callback) {
      if (!document || typeof addEventListener !== "function") return () => {};
      const isVisible = () => document.visibilityState === "visible" && callback();
      // Without `persisted`, it reports the first load.
      const isRestored = ({ persisted }: { persisted: boolean }) => persisted && callback();
      const listening = new AbortController();
      document.addEventListener("visibilitychange", isVisible, listening);
      addEventListener("pageshow", isRestored, listening);
      addEventListener("online", callback, listening);
      addEventListener("offline", callback, listening);
      return () => listening.abort();
    },
  };
}

/** `crypto.randomUUID` exists only in pages from a secure origin. */
function randomId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
