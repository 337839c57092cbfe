import type { Action, CallArguments, ResultOf } from "@belfry/client";
import { useCallback } from "react";
import { useSession } from "./context.js";

/** Has the application's function do something: `call` of the client. */
export type Call = <A extends Action>(action: A, ...data: CallArguments<A>) => Promise<ResultOf<A>>;

/**
 * A function that calls the application. It stays the same in each render.
 *
 * ```tsx
 * const call = useCall();
 * const { ok } = await call("quote.edit", { id: "q-1" });
 * ```
 */
export function useCall(): Call {
  const session = useSession();
  return useCallback<Call>(
    async (action, ...data) => {
      return (session.client.get() ?? (await session.ready())).call(action, ...data);
    },
    [session],
  );
}
