"""What the tools know about a deployed stack."""

import base64
import json
import os
import secrets
import sys
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def emulator():
    """The address of an emulator on this machine, if calls go to one."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    return endpoint.rstrip("/") if urlsplit(endpoint).hostname in LOOPBACK else None


def session():
    """An AWS session that works, or the end, with what to do about it."""
    if emulator():
        # The only credentials that an emulator wants are some.
        os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
        os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test")
        os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    try:
        # AWS's newer tools read AWS_REGION, boto3 does not.
        session = boto3.Session(region_name=os.environ.get("AWS_REGION"))
    except BotoCoreError as error:
        sys.exit(f"{error}\nSet AWS_PROFILE to a profile of ~/.aws/config.")
    if not session.region_name:
        sys.exit(
            "No region: set AWS_DEFAULT_REGION, like AWS_DEFAULT_REGION=eu-west-1, or a profile's with "
            "`aws configure`."
        )
    try:
        session.client("sts").get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        sys.exit(
            f"AWS cannot be called: {error}\n"
            "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; where the profile is one "
            "of SSO, sign in with `aws sso login` (AWS CLI 2).\n"
            "To try things without an account, use an emulator: docs/OPERATIONS.md, "
            '"Without an AWS account".'
        )
    return session


def outputs(session, stack):
    """The stack's outputs by their names."""
    try:
        answer = session.client("cloudformation").describe_stacks(StackName=stack)
    except ClientError as error:
        sys.exit(f"{error}\nDeploy the stack first: `make deploy`, or name another with STACK=…")
    return {o["OutputKey"]: o["OutputValue"] for o in answer["Stacks"][0].get("Outputs", [])}


def sign_in(cognito, outputs, name):
    """An access token of a new user of the stack's own pool."""
    # Every kind of character that a pool may ask for.
    password = f"{secrets.token_urlsafe(24)}-aA1!"
    pool = outputs["UserPoolId"]
    cognito.admin_create_user(UserPoolId=pool, Username=name, MessageAction="SUPPRESS")
    cognito.admin_set_user_password(UserPoolId=pool, Username=name, Password=password, Permanent=True)
    signed_in = cognito.initiate_auth(
        ClientId=outputs["UserPoolClientId"],
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": name, "PASSWORD": password},
    )
    return signed_in["AuthenticationResult"]["AccessToken"]


def claims(token):
    """What a token says. It is not verified: the stack does that."""
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def websocket_url(outputs):
    """Where clients connect: the callback address with another scheme, which
    is right for an emulator, too."""
    return outputs["CallbackUrl"].replace("http", "ws", 1)
