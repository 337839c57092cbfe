// The function on the local stack, where its table exists in memory only.

import { request } from "./table.mjs";

const endpoint = process.env.AWS_ENDPOINT_URL_DYNAMODB;
process.env.DYNAMODB_ENDPOINT = endpoint;

const table = {
  TableName: "LastSeen",
  BillingMode: "PAY_PER_REQUEST",
  AttributeDefinitions: [{ AttributeName: "id", AttributeType: "S" }],
  KeySchema: [{ AttributeName: "id", KeyType: "HASH" }],
};
await request(endpoint, "CreateTable", table).catch((error) => {
  // Another process of this function was first.
  if (error.name !== "ResourceInUseException") throw error;
});

export { handler } from "./index.mjs";
