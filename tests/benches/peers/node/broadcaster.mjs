// Sends a notification to a user or to everyone.
import { ApiGatewayManagementApiClient, PostToConnectionCommand } from "@aws-sdk/client-apigatewaymanagementapi";
import { DeleteItemCommand, DynamoDBClient, paginateQuery, paginateScan } from "@aws-sdk/client-dynamodb";
import { run } from "./runtime.mjs";

const CONCURRENCY = 64;
const TableName = process.env.WEBSOCKET_CONNECTION_TABLE;

const dynamodb = new DynamoDBClient({});
// One socket per concurrent post; the SDK's default is 50.
const sockets = { keepAlive: true, maxSockets: CONCURRENCY };
const management = new ApiGatewayManagementApiClient({
  endpoint: process.env.WEBSOCKET_API_ENDPOINT,
  requestHandler: { httpAgent: sockets, httpsAgent: sockets },
});

async function handler(event, { awsRequestId }) {
  const { target, message } = event;
  const messageId = event.messageId ?? awsRequestId;
  const timestamp = new Date().toISOString();
  const frame = Buffer.from(JSON.stringify({ version: "1.0", timestamp, ...message, id: messageId }));

  // The workers share one iterator: posts continue while the next page is read,
  // and no more than a page is in memory.
  const ids = connectionIds(target);
  const report = { messageId, success: 0, failure: 0 };
  const worker = async () => {
    for await (const id of ids) {
      if (await post(id, frame)) report.success += 1;
      else report.failure += 1;
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  console.log(JSON.stringify({ level: "INFO", message: "done", requestId: awsRequestId, ...report }));
  return report;
}

async function* connectionIds(target) {
  for await (const { Items = [] } of pages(target)) {
    for (const { connectionId } of Items) yield connectionId.S;
  }
}

function pages(target) {
  const read = { TableName, ProjectionExpression: "connectionId" };
  switch (target?.type) {
    case "all":
      return paginateScan({ client: dynamodb }, read);
    case "user":
      return paginateQuery(
        { client: dynamodb },
        {
          ...read,
          IndexName: "userId-index",
          KeyConditionExpression: "userId = :user",
          ExpressionAttributeValues: { ":user": { S: target.userId } },
        },
      );
    default:
      throw new TypeError(`no such target: ${target?.type}`);
  }
}

// One failure must not end the whole broadcast.
async function post(id, frame) {
  try {
    await management.send(new PostToConnectionCommand({ ConnectionId: id, Data: frame }));
    return true;
  } catch (error) {
    // By the status: API Gateway's 410 may have no body.
    if (error.$metadata?.httpStatusCode === 410) await forget(id);
    else warn("not sent", id, error);
    return false;
  }
}

async function forget(id) {
  try {
    await dynamodb.send(new DeleteItemCommand({ TableName, Key: { connectionId: { S: id } } }));
  } catch (error) {
    // The row's TTL will remove it.
    warn("row not removed", id, error);
  }
}

function warn(message, connectionId, error) {
  console.warn(JSON.stringify({ level: "WARN", message, connectionId, reason: error.message }));
}

await run(handler);
