// DynamoDB: with the SDK that Lambda's runtime for Node brings, or without a signature on the local stack.

/** Throws an error with the name of DynamoDB's, and the reasons of a cancelled transaction. */
export async function transactWrite(writes) {
  const { DYNAMODB_ENDPOINT: endpoint } = process.env;
  if (endpoint) {
    await request(endpoint, "TransactWriteItems", { TransactItems: writes });
    return;
  }
  const { DynamoDBClient, TransactWriteItemsCommand } = await import("@aws-sdk/client-dynamodb");
  await new DynamoDBClient({}).send(new TransactWriteItemsCommand({ TransactItems: writes }));
}

/** A call of the local stack's DynamoDB. */
export async function request(endpoint, operation, input) {
  const response = await fetch(endpoint, {
    method: "POST",
    headers: {
      "content-type": "application/x-amz-json-1.0",
      "x-amz-target": `DynamoDB_20120810.${operation}`,
      // They have the form of a signature and are none.
      "x-amz-date": "20260101T000000Z",
      authorization: "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0",
    },
    body: JSON.stringify(input),
    signal: AbortSignal.timeout(3_000),
  });
  const answer = await response.json();
  if (response.ok) return answer;
  const error = new Error(answer.message ?? answer.Message);
  error.name = answer.__type?.split("#").at(-1);
  error.CancellationReasons = answer.CancellationReasons;
  throw error;
}
