import { Belfry, type BelfryOptions, type Message, type TokenSource } from "@belfry/client";
import { type HttpOptions, http } from "@belfry/client/http";
import { locks } from "@belfry/client/locks";
import { presence } from "@belfry/client/presence";
import { type ReactElement, type ReactNode, useEffect, useState } from "react";
import { SessionContext } from "./context.js";
import { Session } from "./session.js";
import { useLatest } from "./use-latest.js";

interface CommonProps {
  children?: ReactNode;
  /** The most notifications to keep: 100 by default. */
  limit?: number;
  /** Is called with each notification, once. */
  onNotification?: (notification: Message) => void;
}

interface OwnClientProps extends CommonProps {
  /** The stack's WebSocket URL. Another one makes another client. */
  url: BelfryOptions["url"];
  /** Gets a token. It may be another function in each render. */
  token: TokenSource;
  /** The stack's output `ReaderUrl`, to use HTTP where WebSockets are blocked. It is read when the client is made. */
  reader?: HttpOptions["reader"];
  /** Other options of the client. They are read when the client is made. */
  options?: Omit<BelfryOptions, "url" | "token">;
  client?: undefined;
}

interface GivenClientProps extends CommonProps {
  /** A client that was made elsewhere, and that is closed there, too. */
  client: Belfry;
  url?: undefined;
  token?: undefined;
  reader?: undefined;
  options?: undefined;
}

/** What {@link WebSocketProvider} takes: the URL and a token of a client to make, or a client. */
export type WebSocketProviderProps = OwnClientProps | GivenClientProps;

const hrefOf = (url: BelfryOptions["url"]) => (typeof url === "string" ? url : url.href);

/**
 * Gives the components inside a connection. It is opened in the browser when the provider is mounted, and closed when it
 * is unmounted.
 *
 * ```tsx
 * <WebSocketProvider url="wss://example.com/prod" token={async () => (await fetchAuthSession()).tokens?.accessToken.toString()}>
 *   <App />
 * </WebSocketProvider>
 * ```
 */
export function WebSocketProvider(props: WebSocketProviderProps): ReactElement {
  const { children, client, limit = 100 } = props;
  const [session] = useState(() => new Session());
  const latest = useLatest(props);
  const source = client ?? hrefOf(props.url);

  useEffect(() => {
    session.notifications.limit = limit;
  }, [session, limit]);
  useEffect(
    () => session.notifications.onAdded((notification) => latest.current.onNotification?.(notification)),
    [session, latest],
  );
  useEffect(() => {
    const token: TokenSource = (request) => latest.current.token?.(request);
    const make = () => {
      const { url, reader, options } = latest.current as OwnClientProps;
      const fallback = reader === undefined ? {} : { fallback: http({ reader }) };
      return new Belfry({ presence, locks, ...fallback, ...options, url, token });
    };
    return session.hold(source, make);
  }, [session, source, latest]);

  return <SessionContext.Provider value={session}>{children}</SessionContext.Provider>;
}
