// $disconnect: removes the connection's row.
import { DeleteItemCommand, DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { run } from "./runtime.mjs";

const TableName = process.env.WEBSOCKET_CONNECTION_TABLE;
const dynamodb = new DynamoDBClient({});

async function handler(event, { awsRequestId }) {
  const { connectionId, disconnectStatusCode: status } = event.requestContext;
  await dynamodb.send(new DeleteItemCommand({ TableName, Key: { connectionId: { S: connectionId } } }));
  const line = { level: "INFO", message: "disconnected", requestId: awsRequestId, connectionId, status };
  console.log(JSON.stringify(line));
  return { statusCode: 200 };
}

await run(handler);
