// Invokes the broadcaster like a REST handler, and prints the answer.
// Arguments: Lambda's endpoint, and the request as JSON.
import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";

const [endpoint, request] = process.argv.slice(2);
const lambda = new LambdaClient({
  endpoint,
  region: "us-east-1",
  credentials: { accessKeyId: "test", secretAccessKey: "test" },
});
const response = await lambda.send(new InvokeCommand({ FunctionName: "Broadcaster", Payload: request }));
const payload = JSON.parse(new TextDecoder().decode(response.Payload));
console.log(JSON.stringify({ functionError: response.FunctionError ?? null, payload }));
