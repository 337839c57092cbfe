// $default: answers a client's frame and updates lastSeenAt.
import { ConditionalCheckFailedException, DynamoDBClient, UpdateItemCommand } from "@aws-sdk/client-dynamodb";
import { run } from "./runtime.mjs";

const TableName = process.env.WEBSOCKET_CONNECTION_TABLE;
const dynamodb = new DynamoDBClient({});

async function handler(event) {
  // Before the answer, since Lambda freezes the process afterwards.
  if (!(await touch(event.requestContext.connectionId))) return { statusCode: 410 };
  return { statusCode: 200, body: JSON.stringify(answer(event.body)) };
}

async function touch(connectionId) {
  try {
    await dynamodb.send(
      new UpdateItemCommand({
        TableName,
        Key: { connectionId: { S: connectionId } },
        UpdateExpression: "SET lastSeenAt = :now",
        // Otherwise a frame after the disconnect would create a partial row.
        ConditionExpression: "attribute_exists(connectionId)",
        ExpressionAttributeValues: { ":now": { N: String(Date.now()) } },
      }),
    );
    return true;
  } catch (error) {
    if (error instanceof ConditionalCheckFailedException) return false;
    throw error;
  }
}

function answer(body) {
  let frame;
  try {
    frame = JSON.parse(body);
  } catch {
    return refused("INVALID_MESSAGE", "not JSON");
  }
  if (typeof frame?.type !== "string") return refused("INVALID_MESSAGE", "no type");
  const { type, version, id: correlationId, data } = frame;
  if (!/^1\.\d+$/.test(version)) return refused("UNSUPPORTED_VERSION", "version must be 1.x", correlationId);
  switch (type) {
    case "ping":
      return { type: "pong", version: "1.0", correlationId };
    case "echo":
      if (data === undefined) return refused("INVALID_MESSAGE", "no data", correlationId);
      return { type: "echo", version: "1.0", data, correlationId };
    default:
      return refused("UNKNOWN_TYPE", "no such type", correlationId);
  }
}

function refused(code, message, correlationId) {
  const timestamp = new Date().toISOString();
  return { type: "error", version: "1.0", data: { code, message, timestamp }, correlationId };
}

await run(handler);
