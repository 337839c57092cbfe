"""Runs the commands in the examples' READMEs, against the local stack and an
emulator's S3, EventBridge and Step Functions.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import boto3

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from emulator import CREDENTIALS, Emulator  # noqa: E402
from scenario import PATIENCE_SECONDS, Lines, step, until  # noqa: E402

BELFRY = ROOT / "target/debug/belfry"
WSCAT = ROOT / "tests/node/node_modules/.bin/wscat"

# For the commands that install packages.
INSTALL_SECONDS = 300

# A developer's own settings must not change what the lines do.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}


def blocks(title, addresses):
    """The commands of each block below a title, with other addresses."""
    section = (ROOT / "examples/README.md").read_text().split(f"\n## {title}")[1].split("\n## ")[0]
    for written, real in addresses.items():
        section = section.replace(written, real)
    for block in re.findall(r"^```\n(\$ .*?)^```$", section, re.MULTILINE | re.DOTALL):
        yield "\n".join(line[2:] for line in block.splitlines() if line.startswith("$ "))


def run(commands, environment=ENVIRONMENT, seconds=PATIENCE_SECONDS):
    done = subprocess.run(
        ["bash", "-e", "-c", commands],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=seconds,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
    return done.stdout


def upload_id(text):
    upload = json.loads(text[text.index("{"):])
    assert upload["file"] == "README.md", text
    return upload["uploadId"]


# What stands in for Belfry's stack on the emulator: a function that hands each
# request to the broadcaster of the local stack.
STAND_IN = """
import json, os, urllib.request

def handler(event, context):
    path = "/2015-03-31/functions/Broadcaster/invocations"
    urllib.request.urlopen(os.environ["LOCAL_STACK"] + path, data=json.dumps(event).encode()).close()
"""


def stand_in(local_stack):
    """A template with the outputs of Belfry's stack that the example needs."""
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    invoke = {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": {"Fn::GetAtt": ["Broadcaster", "Arn"]}}
    return json.dumps({
        "Resources": {
            "Role": {
                "Type": "AWS::IAM::Role",
                "Properties": {"AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [trust]}},
            },
            "Broadcaster": {
                "Type": "AWS::Lambda::Function",
                "Properties": {
                    "Runtime": "python3.13",
                    "Handler": "index.handler",
                    "Role": {"Fn::GetAtt": ["Role", "Arn"]},
                    "Environment": {"Variables": {"LOCAL_STACK": local_stack}},
                    "Code": {"ZipFile": STAND_IN},
                },
            },
            "Policy": {
                "Type": "AWS::IAM::ManagedPolicy",
                "Properties": {"PolicyDocument": {"Version": "2012-10-17", "Statement": [invoke]}},
            },
        },
        "Outputs": {
            "BroadcasterArn": {"Value": {"Fn::GetAtt": ["Broadcaster", "Arn"]}},
            "BroadcasterInvokePolicyArn": {"Value": {"Ref": "Policy"}},
        },
    })


def s3_upload(emulator, local_stack, alice):
    """The emulator checks no role of a rule or a state machine: templates_test.py does."""
    cloudformation = boto3.client(
        "cloudformation", endpoint_url=emulator.endpoint, region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )
    cloudformation.create_stack(
        StackName="belfry-dev", TemplateBody=stand_in(local_stack), Capabilities=["CAPABILITY_IAM"]
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName="belfry-dev", WaiterConfig={"Delay": 1})

    page = (ROOT / "examples/s3-upload/README.md").read_text()
    define, deploy, upload, look = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    path = f"{ROOT / '.venv/aws/bin'}:{ENVIRONMENT['PATH']}"
    environment = ENVIRONMENT | CREDENTIALS | {"AWS_ENDPOINT_URL": emulator.endpoint, "PATH": path}
    run(define + deploy + upload, environment)
    size = (ROOT / "README.md").stat().st_size
    alice.wait_for("upload.completed", '"file":"README.md"', f'"size":{size}')
    odd = upload.replace("/README.md\"", "/holiday/\\\"1\\\" ü.md\"")
    assert odd != upload, upload
    run(define + odd, environment)
    alice.wait_for("upload.completed", r'"file":"holiday/\"1\" ü.md"')
    step("examples/s3-upload tells the user whom the key names")

    known = "$(output belfry-dev BroadcasterArn)"
    assert known in deploy, deploy
    run(define + deploy.replace(known, f"{known}-gone") + upload, environment)
    # For SQS, version 1 of the AWS CLI ignores AWS_ENDPOINT_URL.
    look = look.replace("--queue-url", f"--endpoint-url {emulator.endpoint} --queue-url")
    letter = until("what nobody was told of", lambda: run(define + look, environment))
    assert "ResourceNotFoundException" in letter and "uploads/alice/README.md" in letter, letter
    step("and keeps what it cannot tell, with the reason")


def main():
    with contextlib.ExitStack() as ending, Emulator(ROOT / ".venv/ministack/bin/ministack") as emulator:

        def started(command, **options):
            lines = Lines(command, cwd=ROOT, env=ENVIRONMENT, **options)
            ending.callback(lines.end)
            return lines

        command = [BELFRY, "run", "--port", "0", "--dynamodb-port", "0", "--json"]
        stack = json.loads(started(command).wait_for('"websocket"'))
        addresses = {"http://127.0.0.1:3001": stack["lambda"], "http://127.0.0.1:4566": emulator.endpoint}
        token = run(f"{BELFRY} token --user alice --endpoint {stack['lambda']}").strip()
        alice = started([WSCAT, "--connect", f"{stack['websocket']}?token={token}"])

        # `npm ci` deletes node_modules, which other tests may be using.
        copy = Path(ending.enter_context(tempfile.TemporaryDirectory())) / "typescript"
        shutil.copytree(
            ROOT / "examples/typescript", copy, ignore=shutil.ignore_patterns("node_modules", "dist")
        )
        here = {"cd examples/typescript": f"cd {copy}", "PORT=3000": "PORT=0"}
        serve, upload = blocks("TypeScript", addresses)
        for written, other in here.items():
            assert written in serve, serve
            serve = serve.replace(written, other)
        # The shell is killed with npm and node.
        server = started(["bash", "-e", "-c", serve], start_new_session=True)
        ending.callback(os.killpg, server.process.pid, signal.SIGKILL)
        url = re.search(r"http://127\S+", server.wait_for("http://127", seconds=INSTALL_SECONDS))[0]
        alice.wait_for(upload_id(run(upload.replace("http://127.0.0.1:3000", url))))
        step("examples/typescript runs as its README says")

        [upload] = blocks("Python", addresses)
        alice.wait_for(upload_id(run(upload, seconds=INSTALL_SECONDS)))
        step("so does examples/python")

        s3_upload(emulator, stack["lambda"], alice)


if __name__ == "__main__":
    main()
