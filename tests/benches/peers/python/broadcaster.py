"""Sends a notification to a user or to everyone."""

import json
import logging
import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from functools import partial

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

import runtime

CONCURRENCY = 64
TABLE = os.environ["WEBSOCKET_CONNECTION_TABLE"]
REGION = os.environ["AWS_REGION"]

logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
log = logging.getLogger("broadcaster")
log.setLevel(logging.INFO)

# One connection per concurrent post; botocore's default is 10.
config = Config(max_pool_connections=CONCURRENCY)
dynamodb = boto3.client("dynamodb", region_name=REGION, config=config)
management = boto3.client(
    "apigatewaymanagementapi",
    region_name=REGION,
    endpoint_url=os.environ["WEBSOCKET_API_ENDPOINT"],
    config=config,
)
# Threads are kept between events, like the clients.
pool = ThreadPoolExecutor(max_workers=CONCURRENCY)


def handler(event, context):
    message_id = event.get("messageId") or context.aws_request_id
    timestamp = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    message = {"version": "1.0", "timestamp": timestamp, **event["message"], "id": message_id}
    frame = json.dumps(message, separators=(",", ":")).encode()

    # The pool starts posting each page while the next one is read.
    outcomes = Counter(pool.map(partial(post, frame=frame), connection_ids(event["target"])))
    report = {"messageId": message_id, "success": outcomes[True], "failure": outcomes[False]}
    log.info(json.dumps({"message": "done", "requestId": context.aws_request_id, **report}))
    return report


def connection_ids(target):
    read = {"TableName": TABLE, "ProjectionExpression": "connectionId"}
    if target["type"] == "all":
        pages = dynamodb.get_paginator("scan").paginate(**read)
    elif target["type"] == "user":
        pages = dynamodb.get_paginator("query").paginate(
            **read,
            IndexName="userId-index",
            KeyConditionExpression="userId = :user",
            ExpressionAttributeValues={":user": {"S": target["userId"]}},
        )
    else:
        raise ValueError(f"no such target: {target['type']}")
    for page in pages:
        for item in page["Items"]:
            yield item["connectionId"]["S"]


def post(connection_id, frame):
    """Returns whether it was sent. One failure must not end the whole broadcast."""
    try:
        management.post_to_connection(ConnectionId=connection_id, Data=frame)
        return True
    except ClientError as error:
        # By the status: API Gateway's 410 may have no body.
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 410:
            forget(connection_id)
        else:
            log.warning("%s: not sent: %s", connection_id, error)
    except BotoCoreError as error:
        log.warning("%s: not sent: %s", connection_id, error)
    return False


def forget(connection_id):
    try:
        dynamodb.delete_item(TableName=TABLE, Key={"connectionId": {"S": connection_id}})
    except (BotoCoreError, ClientError) as error:
        # The row expires by itself.
        log.warning("%s: row not removed: %s", connection_id, error)


if __name__ == "__main__":
    runtime.run(handler)
