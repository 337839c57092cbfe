import { Belfry, type BelfryOptions, type TokenSource } from "@belfry/client";
import { type HttpOptions, http } from "@belfry/client/http";
import { locks } from "@belfry/client/locks";
import { presence } from "@belfry/client/presence";
import { type ReactElement, type ReactNode, useEffect, useState } from "react";
import { SessionContext } from "./context.js";
import { Session, type SessionOptions } from "./session.js";
import { useLatest } from "./use-latest.js";

interface CommonProps extends SessionOptions {
  children?: ReactNode;
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

/** The URL and the tokens for a new client, or a client. */
export type WebSocketProviderProps = OwnClientProps | GivenClientProps;

/**
 * Provides a connection to its children. The connection opens when the provider mounts in a browser, and closes when it
 * unmounts.
 *
 * ```tsx
 * <WebSocketProvider url="wss://example.com/prod" token={async () => (await fetchAuthSession()).tokens?.accessToken.toString()}>
 *   <App />
 * </WebSocketProvider>
 * ```
 */
export function WebSocketProvider(props: WebSocketProviderProps): ReactElement {
  const { children, client } = props;
  const latest = useLatest(props);
  const [session] = useState(() => new Session(latest));
  const source = client ?? String(props.url);

  useEffect(() => {
    const token: TokenSource = (request) => latest.current.token?.(request);
    const make = () => {
      const { url, reader, options } = latest.current as OwnClientProps;
      return new Belfry({ presence, locks, ...(reader && { fallback: http({ reader }) }), ...options, url, token });
    };
    return session.hold(source, make);
  }, [session, source, latest]);

  return <SessionContext.Provider value={session}>{children}</SessionContext.Provider>;
}
