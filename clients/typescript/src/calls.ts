/**
 * What the application's function does for clients. An application adds its own:
 *
 * ```ts
 * declare module "@belfry/client" {
 *   interface Calls {
 *     "quote.edit": { data: { id: string; age: number }; result: { premium: number } };
 *   }
 * }
 * ```
 */
// biome-ignore lint/suspicious/noEmptyInterface: applications add to it
export interface Calls {}

/** The name of an action: one of {@link Calls}, or any other. */
export type Action = keyof Calls | (string & {});

/** What an action needs. `unknown` if {@link Calls} does not have it. */
export type CallDataOf<A extends Action> = A extends keyof Calls ? Field<Calls[A], "data"> : unknown;

/** What an action returns. `unknown` if {@link Calls} does not have it. */
export type ResultOf<A extends Action> = A extends keyof Calls ? Field<Calls[A], "result"> : unknown;

/** The data may be left out if the action allows it. */
export type CallArguments<A extends Action> =
  undefined extends CallDataOf<A> ? [data?: CallDataOf<A>] : [data: CallDataOf<A>];

type Field<T, Name extends string> = Name extends keyof T ? T[Name] : undefined;
