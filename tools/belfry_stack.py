"""Access to a deployed stack, shared by the tools."""

import base64
import json
import os
import secrets
import sys
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

import commands

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def emulator():
    """The endpoint of a local emulator, if AWS calls go to one."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    return endpoint.rstrip("/") if urlsplit(endpoint).hostname in LOOPBACK else None


def session():
    """A working AWS session. Exits with advice if there is none."""
    if emulator():
        # An emulator accepts any credentials, but the SDK needs some.
        os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
        os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test")
        os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    try:
        # AWS's newer tools read AWS_REGION; boto3 does not.
        session = boto3.Session(region_name=os.environ.get("AWS_REGION"))
    except BotoCoreError as error:
        sys.exit(f"{error}\nSet AWS_PROFILE to a profile in ~/.aws/config.")
    if not session.region_name:
        sys.exit(
            "No region is set. Set AWS_DEFAULT_REGION, for example AWS_DEFAULT_REGION=eu-west-1, or run "
            "`aws configure`."
        )
    try:
        session.client("sts").get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        sys.exit(
            f"Cannot call AWS: {error}\n"
            "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. If the profile uses SSO, "
            "sign in with `aws sso login` (AWS CLI 2).\n"
            "To deploy without an account, use an emulator: docs/OPERATIONS.md, "
            '"Without an AWS account".'
        )
    return session


def outputs(session, stack):
    """The stack's outputs by name."""
    try:
        answer = session.client("cloudformation").describe_stacks(StackName=stack)
    except ClientError as error:
        sys.exit(f"{error}\nDeploy the stack first with `{commands.DEPLOY}`, or name another")
    return {o["OutputKey"]: o["OutputValue"] for o in answer["Stacks"][0].get("Outputs", [])}


def sign_in(cognito, outputs, name):
    """Creates a user in the stack's own pool and returns an access token."""
    # Every kind of character that a pool may require.
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
    """A token's claims, unverified: the stack verifies the token."""
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def websocket_url(outputs):
    """The URL that clients connect to: the callback URL with another scheme,
    which is also correct for an emulator."""
    return outputs["CallbackUrl"].replace("http", "ws", 1)
