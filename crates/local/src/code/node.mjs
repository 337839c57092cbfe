// Runs the handler of a Node module: asks the Runtime API for one event at a
// time, as Lambda's own runtime does. The module's path is the argument.

import http from "node:http";
import { pathToFileURL } from "node:url";

const API = `${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime`;
// Not fetch: it gives up after five minutes, and the next event may come later.
const agent = new http.Agent({ keepAlive: true });

function call(method, path, body) {
  return new Promise((resolve, reject) => {
    const request = http.request(`${API}${path}`, { method, agent }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("end", () => resolve({ headers: response.headers, text: Buffer.concat(chunks).toString() }));
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end(body);
  });
}

function describe(error) {
  if (!(error instanceof Error)) return { errorType: typeof error, errorMessage: String(error), trace: [] };
  return { errorType: error.name, errorMessage: error.message, trace: (error.stack ?? "").split("\n") };
}

async function load() {
  const path = process.argv.at(-1);
  const module = await import(pathToFileURL(path));
  const handler = module.handler ?? module.default?.handler;
  if (typeof handler !== "function") throw new TypeError(`${path} exports no function "handler"`);
  return handler;
}

function contextOf(headers) {
  const deadline = Number(headers["lambda-runtime-deadline-ms"]);
  return {
    awsRequestId: headers["lambda-runtime-aws-request-id"],
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    getRemainingTimeInMillis: () => deadline - Date.now(),
  };
}

async function serve(handler) {
  const { headers, text } = await call("GET", "/invocation/next");
  const id = headers["lambda-runtime-aws-request-id"];
  let outcome;
  try {
    const result = await handler(JSON.parse(text), contextOf(headers));
    outcome = ["response", JSON.stringify(result ?? null)];
  } catch (error) {
    const description = JSON.stringify(describe(error));
    console.error(`Invoke Error ${description}`);
    outcome = ["error", description];
  }
  await call("POST", `/invocation/${id}/${outcome[0]}`, outcome[1]);
}

let handler;
try {
  handler = await load();
} catch (error) {
  await call("POST", "/init/error", JSON.stringify(describe(error)));
  process.exit(1);
}
for (;;) await serve(handler);
