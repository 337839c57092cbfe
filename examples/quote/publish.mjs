// Publishes to a channel through Belfry's broadcaster.

const TIMEOUT_MS = 3_000;

/** Only logs a failure: what it tells of has happened already. */
export async function publish(channel, data, exclude) {
  // Where functions are invoked, and the output BroadcasterArn or BroadcasterName of Belfry's stack.
  const { BROADCASTER_FUNCTION: broadcaster, LAMBDA_ENDPOINT: endpoint } = process.env;
  if (!broadcaster) return;
  const request = { target: { type: "channel", channel }, message: { type: "notification", data }, exclude };
  try {
    await invoke(endpoint, broadcaster, JSON.stringify(request));
  } catch (error) {
    console.error(`could not publish to ${channel}:`, error);
  }
}

async function invoke(endpoint, name, payload) {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  if (endpoint) {
    // The local stack takes requests without a signature.
    const url = `${endpoint}/2015-03-31/functions/${encodeURIComponent(name)}/invocations`;
    const headers = { "x-amz-invocation-type": "Event" };
    const response = await fetch(url, { method: "POST", headers, body: payload, signal });
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
    return;
  }
  // Lambda's runtime for Node brings the SDK.
  const { InvokeCommand, LambdaClient } = await import("@aws-sdk/client-lambda");
  const command = new InvokeCommand({ FunctionName: name, InvocationType: "Event", Payload: payload });
  await new LambdaClient({}).send(command, { abortSignal: signal });
}
