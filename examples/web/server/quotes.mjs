/** The calls of examples/quote, with its own code. */
export async function quoteCalls({ urls }) {
  process.env.BROADCASTER_FUNCTION = "Broadcaster";
  process.env.LAMBDA_ENDPOINT = urls.lambda;
  const { handler } = await import("../../quote/index.mjs");
  return handler;
}
