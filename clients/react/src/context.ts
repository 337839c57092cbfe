import { type Context, createContext, useContext } from "react";
import type { Session } from "./session.js";

export const SessionContext: Context<Session | null> = createContext<Session | null>(null);

/** The session of the nearest provider. */
export function useSession(): Session {
  const session = useContext(SessionContext);
  if (!session) throw new Error("put a <WebSocketProvider> around this component");
  return session;
}
