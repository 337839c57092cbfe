"""POST ?file=x.png, the body being the file: stores it in S3 and tells its
owner's browsers through Belfry. A Lambda function behind an HTTP API, whose
JWT authorizer has checked the token's signature, issuer, client and time.
"""

import base64
import json
import logging
import os
import re
import uuid
from urllib.parse import quote

import boto3
from botocore.config import Config

MAX_BYTES = 4 * 1024 * 1024  # In base64 still below the 6 MB that Lambda takes.

BUCKET = os.environ["UPLOADS_BUCKET"]
BROADCASTER = os.environ["BROADCASTER_FUNCTION"]

log = logging.getLogger()
log.setLevel(logging.INFO)
s3 = boto3.client("s3")
# The upload's answer waits for this call: a few seconds at the very most.
lambda_ = boto3.client(
    "lambda",
    config=Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 2}),
)


def handler(event, context):
    claims = event["requestContext"]["authorizer"]["jwt"]["claims"]
    # The authorizer takes ID tokens, too.
    if claims.get("token_use") != "access":
        return answer(401, error="an access token is needed")
    file = (event.get("queryStringParameters") or {}).get("file", "")
    if not re.fullmatch(r"[^\x00-\x1f\x7f-\x9f/\\]{1,255}", file):
        return answer(400, error="?file= must be the file's name")
    body = body_of(event)
    if len(body) > MAX_BYTES:
        return answer(413, error=f"a file may have {MAX_BYTES} bytes")

    upload_id = str(uuid.uuid4())
    # Where this fails the client gets 500, and Lambda's error metric counts it.
    s3.put_object(
        Bucket=BUCKET,
        Key=f"{quote(claims['sub'], safe='')}/{upload_id}",  # nothing in it is the client's choice
        Body=body,
        ContentDisposition=f"attachment; filename*=UTF-8''{quote(file, safe='')}",
    )
    tell(claims["sub"], file, upload_id)
    return answer(201, uploadId=upload_id, file=file, size=len(body))


def body_of(event):
    body = event.get("body") or ""
    return base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()


def tell(user_id, file, upload_id):
    request = {
        "target": {"type": "user", "userId": user_id},
        "message": {"type": "notification", "data": {"kind": "upload.completed", "file": file}},
        "messageId": upload_id,
    }
    try:
        lambda_.invoke(FunctionName=BROADCASTER, InvocationType="Event", Payload=json.dumps(request))
    except Exception:  # The file is stored by now: whatever goes wrong is logged and no more.
        log.exception("upload %s: its owner was not told", upload_id)


def answer(status, **fields):
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json"},
        "body": json.dumps(fields),
    }
