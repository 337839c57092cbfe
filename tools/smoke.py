"""Tests a deployed stack: a bad token, a good one, a ping, a broadcast, the alarms.

The good token belongs to a user that this creates in the stack's own pool and
removes at the end. If the stack has no pool, set the environment variable TOKEN.
"""

import contextlib
import json
import os
import sys
import time
import uuid

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import commands
from belfry_stack import claims, emulator, outputs, session, sign_in, websocket_url

# A handshake or an answer that takes longer has failed: API Gateway itself
# waits 29 seconds.
PATIENCE_SECONDS = 30

FAILED = []


def check(what, holds, otherwise=""):
    print(f"{'ok   ' if holds else 'FAIL '} {what}{'' if holds else f': {otherwise}'}", flush=True)
    if not holds:
        FAILED.append(what)
    return holds


class User:
    """A temporary user in the stack's own pool."""

    def __init__(self, aws, found):
        self.cognito, self.pool = aws.client("cognito-idp"), found["UserPoolId"]
        self.name = f"smoke-{uuid.uuid4()}"
        try:
            self.token = sign_in(self.cognito, found, self.name)
        except BaseException:
            with contextlib.suppress(self.cognito.exceptions.UserNotFoundException):
                self.remove()
            raise

    def remove(self):
        self.cognito.admin_delete_user(UserPoolId=self.pool, Username=self.name)


def open_socket(url, token):
    headers = {"Authorization": f"Bearer {token}"}
    return connect(url, additional_headers=headers, open_timeout=PATIENCE_SECONDS)


def expect(socket, kind):
    """The next frame of a type. Others, such as the server's ping, may precede it."""
    end = time.monotonic() + PATIENCE_SECONDS
    while (left := end - time.monotonic()) > 0:
        frame = json.loads(socket.recv(timeout=left))
        if frame.get("type") == kind:
            return frame
    raise TimeoutError(f"no {kind} arrived")


def talk(aws, found, token):
    url = websocket_url(found)
    for name, bad in [("no token", None), ("a bad token", "nonsense")]:
        try:
            (connect(url, open_timeout=PATIENCE_SECONDS) if bad is None else open_socket(url, bad)).close()
            check(f"{name} is refused", False, "it was accepted")
        except InvalidStatus as refused:
            status = refused.response.status_code
            # MiniStack turns every refusal into 403. API Gateway answers 403
            # for a wrong stage.
            right = 403 if emulator() else 401
            check(f"{name} is refused", status == right, f"with {status}")

    with open_socket(url, token) as socket:
        check("a good token connects", True)
        socket.send(json.dumps({"type": "ping", "version": "1.0", "id": "1"}))
        try:
            pong = expect(socket, "pong")
        except TimeoutError as silence:
            raise TimeoutError(
                f"{silence}: if no frame is answered, check that the route has a route response "
                f"(aws apigatewayv2 get-routes --api-id {found['ApiId']}) and that Default runs (its log)"
            ) from silence
        check("a ping is answered", pong.get("correlationId") == "1", pong)
        socket.send(json.dumps({"type": "hello", "version": "1.0"}))
        user = expect(socket, "welcome")["data"]["userId"]
        data = {"kind": "system.announcement", "text": "This is a test. No action is needed."}
        request = {
            "messageId": f"smoke-{uuid.uuid4()}",
            "target": {"type": "user", "userId": user},
            "message": {"type": "notification", "data": data},
        }
        answer = aws.client("lambda").invoke(
            FunctionName=found["BroadcasterArn"], Payload=json.dumps(request)
        )
        report = json.loads(answer["Payload"].read())
        reached = "FunctionError" not in answer and report.get("success", 0) >= 1
        if check("the broadcaster reaches the user", reached, report):
            arrived = expect(socket, "notification")
            check("the broadcast arrives", arrived.get("id") == request["messageId"], arrived)


def check_alarms(aws, stack):
    cloudformation = aws.client("cloudformation")
    nested = cloudformation.describe_stack_resource(StackName=stack, LogicalResourceId="Alarms")
    nested = nested["StackResourceDetail"]["PhysicalResourceId"]
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=nested)
    names = {r["PhysicalResourceId"] for page in pages for r in page["StackResourceSummaries"]}
    # All of the account's alarms: one call does not accept so many names.
    pages = aws.client("cloudwatch").get_paginator("describe_alarms").paginate()
    alarms = [alarm for page in pages for alarm in page["MetricAlarms"] if alarm["AlarmName"] in names]
    missing = names - {alarm["AlarmName"] for alarm in alarms}
    check(f"{len(names)} alarms exist", names and not missing, f"missing: {sorted(missing)}")
    ringing = [alarm["AlarmName"] for alarm in alarms if alarm["StateValue"] == "ALARM"]
    if ringing:
        print("note  in alarm: " + ", ".join(sorted(ringing)))


def main():
    if len(sys.argv) != 2 or not sys.argv[1]:
        sys.exit(f"Name the stack: {commands.smoke('belfry-dev')}")
    stack = sys.argv[1]
    aws = session()
    found = outputs(aws, stack)
    user, token = None, os.environ.get("TOKEN")
    if not token and "UserPoolId" not in found:
        sys.exit(
            f"{stack} has no user pool of its own. Sign in to yours and pass an access token: "
            f"TOKEN=eyJ… {commands.smoke(stack)}"
        )
    try:
        if not token:
            user = User(aws, found)
            token = user.token
            check("a user signs in", "sub" in claims(token))
        talk(aws, found, token)
    except (ConnectionClosed, InvalidStatus, OSError) as error:
        check("the connection works", False, error)
    finally:
        if user:
            user.remove()
    check_alarms(aws, stack)
    sys.exit(f"{len(FAILED)} checks failed" if FAILED else 0)


if __name__ == "__main__":
    main()
