"""Stores an upload in S3 and notifies its owner's browsers through Belfry.

The request is POST ?file=x.png with the file as the body. This is a Lambda
function behind an HTTP API, whose JWT authorizer has verified the token's
signature, issuer, client and expiry.
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

MAX_BYTES = 4 * 1024 * 1024  # In base64 this is still below Lambda's 6 MB.

BUCKET = os.environ["UPLOADS_BUCKET"]
BROADCASTER = os.environ["BROADCASTER_FUNCTION"]

log = logging.getLogger()
log.setLevel(logging.INFO)
s3 = boto3.client("s3")
# The response to the upload waits for this call, so it may take a few seconds
# at most.
lambda_ = boto3.client(
    "lambda",
    config=Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 2}),
)


def handler(event, context):
    claims = event["requestContext"]["authorizer"]["jwt"]["claims"]
    # The authorizer accepts ID tokens, too.
    if claims.get("token_use") != "access":
        return answer(401, error="an access token is required")
    file = (event.get("queryStringParameters") or {}).get("file", "")
    if not re.fullmatch(r"[^\x00-\x1f\x7f-\x9f/\\]{1,255}", file):
        return answer(400, error="?file= must be a file name")
    body = body_of(event)
    if len(body) > MAX_BYTES:
        return answer(413, error=f"a file may be at most {MAX_BYTES} bytes")

    upload_id = str(uuid.uuid4())
    # If this fails, the client gets 500, and Lambda's error metric counts it.
    s3.put_object(
        Bucket=BUCKET,
        Key=f"{quote(claims['sub'], safe='')}/{upload_id}",  # the client chooses no part of it
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
    except Exception:  # The file is stored already, so the upload must not fail.
        log.exception("upload %s: could not notify its owner", upload_id)


def answer(status, **fields):
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json"},
        "body": json.dumps(fields),
    }
