import type { WebSocketConstructor } from "./environment.js";
import type { Link, LinkEvents, LinkRequest, Transport } from "./transport.js";

/** The code of a link that broke, or that was never opened. */
export const ABNORMAL = 1006;

/** Carries frames over a WebSocket. The token is a subprotocol, because a page can set no header. */
export function webSocketTransport(WebSocket: WebSocketConstructor): Transport {
  return {
    open({ url, token, replaces }: LinkRequest, events: LinkEvents): Link {
      const address = new URL(url);
      if (replaces !== undefined) address.searchParams.set("replaces", replaces);
      const socket = new WebSocket(address.href, ["belfry.v1", `bearer.${token}`]);
      socket.onopen = () => events.opened();
      socket.onmessage = ({ data }: { data: unknown }) => events.received(data);
      socket.onclose = ({ code }: { code: number }) => events.closed(code);
      // A close event follows and says all that a page may know. Node's implementations require a listener.
      socket.onerror = () => {};
      return {
        send: (text) => socket.send(text),
        close() {
          // The close event of a dead network comes minutes later.
          socket.onopen = socket.onmessage = socket.onclose = null;
          socket.close(1000);
        },
      };
    },
  };
}
