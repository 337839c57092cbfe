// Gets events from the Runtime API and answers them like Lambda's Node runtime:
// one event at a time, over one persistent connection.
import http from "node:http";

const API = new URL(`http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation/`);
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

export async function run(handler) {
  for (;;) {
    const { headers, body } = await call("GET", "next");
    const awsRequestId = headers["lambda-runtime-aws-request-id"];
    // The SDK sends it with its calls.
    process.env._X_AMZN_TRACE_ID = headers["lambda-runtime-trace-id"] ?? "";
    const context = { awsRequestId, deadline: Number(headers["lambda-runtime-deadline-ms"]) };
    try {
      const result = await handler(JSON.parse(body), context);
      await call("POST", `${awsRequestId}/response`, JSON.stringify(result ?? null));
    } catch (error) {
      const { name: errorType, message: errorMessage } = error;
      await call("POST", `${awsRequestId}/error`, JSON.stringify({ errorType, errorMessage }));
    }
  }
}

function call(method, path, payload) {
  return new Promise((resolve, reject) => {
    const request = http.request(new URL(path, API), { method, agent }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const body = Buffer.concat(chunks).toString();
        if (response.statusCode < 300) resolve({ headers: response.headers, body });
        else reject(new Error(`${method} ${path}: ${response.statusCode} ${body}`));
      });
    });
    request.on("error", reject);
    if (payload !== undefined) {
      // With a known length, the request is not chunked.
      request.setHeader("Content-Type", "application/json");
      request.setHeader("Content-Length", Buffer.byteLength(payload));
    }
    request.end(payload);
  });
}
