"""Deploys Belfry to an emulator, uses it as its users do, updates and deletes it.

Everything else is real: the SAM CLI, the functions' binaries, `make deploy` and
`make smoke`, wscat, both AWS SDKs, the examples. The emulator evaluates IAM
policies, so every role must allow enough, and the policies for callers must
allow no more than they should.

Prints a line per step, and stops everything that it started, even on failure.
"""

import base64
import contextlib
import io
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import ClientError

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from belfry_stack import claims, sign_in, websocket_url  # noqa: E402
from build import Build  # noqa: E402
from chaos import Chaos  # noqa: E402
from emulator import CREDENTIALS, Emulator  # noqa: E402
from traffic import Traffic  # noqa: E402

STACK = "belfry-test"
BUCKET = "belfry-test-uploads"

MAKE = shutil.which("make")

# Longest wait for any one thing. Waiting stops as soon as it happens.
PATIENCE_SECONDS = 60

BEGAN = time.monotonic()


def step(text):
    print(f"[{time.monotonic() - BEGAN:5.1f}s] {text}", flush=True)


def until(what, look):
    """Polls `look` until it returns something, and returns that."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"timed out waiting for {what}")


class Lines:
    """A process and its output, line by line."""

    def __init__(self, command, **options):
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )
        self.lines, self.seen = queue.Queue(), []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def wait_for(self, *parts, seconds=PATIENCE_SECONDS):
        """The next line that contains all of these."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                line = self.lines.get(timeout=left)
                self.seen.append(line)
                if all(part in line for part in parts):
                    return line
        raise AssertionError(f"no line with {parts} in:\n" + "\n".join(self.seen))

    def type_line(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self):
        self.process.kill()
        self.process.wait()


class Scenario:
    def __init__(self, emulator, ending):
        self.emulator, self.ending = emulator, ending
        self.environment = os.environ | CREDENTIALS | {"AWS_ENDPOINT_URL": emulator.endpoint}
        # Never use a developer's own profile, nor the options of the make that runs this.
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "MAKEFLAGS", "MFLAGS"):
            self.environment.pop(name, None)
        self.found = {}

    def client(
        self,
        service,
        key=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        secret=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        **options,
    ):
        return boto3.client(
            service,
            endpoint_url=self.emulator.endpoint,
            region_name=CREDENTIALS["AWS_REGION"],
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            **options,
        )

    def make(self, *arguments, fails=False, environment=None):
        """Runs make as a user types it."""
        done = subprocess.run(
            [MAKE, "--no-print-directory", *arguments],
            cwd=ROOT,
            env=environment or self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if (done.returncode != 0) != fails:
            raise AssertionError(f"make {' '.join(arguments)}:\n{done.stdout[-6000:]}")
        return done.stdout

    def started(self, command, **options):
        lines = Lines(command, **options)
        self.ending.callback(lines.end)
        return lines

    def resources(self):
        """The stack's resources: physical ids by logical id."""
        pages = self.client("cloudformation").get_paginator("list_stack_resources")
        return {
            resource["LogicalResourceId"]: resource["PhysicalResourceId"]
            for page in pages.paginate(StackName=STACK)
            for resource in page["StackResourceSummaries"]
        }

    def outputs(self):
        stacks = self.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stacks[0]["Outputs"]}

    def log(self, function):
        """A function's log group, and its messages."""
        group = self.resources()[f"{function}Logs"]
        pages = self.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
        return group, [event["message"] for page in pages for event in page["events"]]

    def rows(self):
        """Alice's rows. One of the smoke test may remain for a moment."""
        rows = self.client("dynamodb").scan(TableName=self.found["ConnectionsTable"])["Items"]
        return [row for row in rows if row["userId"]["S"] == self.user]

    def connection_ids(self):
        return {row["connectionId"]["S"] for row in self.rows()}

    def invoke(self, function, payload, lambda_=None, **options):
        answer = (lambda_ or self.client("lambda")).invoke(
            FunctionName=function, Payload=json.dumps(payload), **options
        )
        text = answer["Payload"].read()
        return json.loads(text) if text else None, answer.get("FunctionError")

    # The steps, in order.

    def refuse_to_deploy_without_credentials(self):
        names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        bare = {name: value for name, value in self.environment.items() if name not in names}
        bare |= {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
        said = self.make("deploy", fails=True, environment=bare)
        assert "AWS_PROFILE" in said and "aws sso login" in said, said
        step("make deploy without credentials says what to set")
        # Only make itself is available.
        said = self.make("build", fails=True, environment={"PATH": "/nonexistent"})
        assert "python3 is missing: install" in said or "cargo is missing: install" in said, said
        step("make build without tools says what to install")
        said = self.make("deploy", "CONFIG=staging", fails=True)
        assert "no section staging; it has default, prod" in said, said
        step("make deploy with an unknown section lists those of samconfig.toml")

    def deploy(self):
        said = self.make("deploy", f"STACK={STACK}", "PARAMETERS=AccessLog=true")
        left_out = re.findall(r"Left out (\w+)", said)
        # One resource type, and the alarms on expressions. If the emulator refuses
        # anything else, the deploy fails.
        assert left_out[0] == "DefaultRouteResponse" and len(left_out) == 11, said
        self.found = self.outputs()
        assert websocket_url(self.found) in said, said
        step(f"deployed {STACK}: {len(self.resources())} resources, {len(self.found)} outputs")

    def smoke(self):
        said = self.make("smoke", f"STACK={STACK}")
        checks = [line for line in said.splitlines() if line.startswith("ok ")]
        assert len(checks) >= 8 and "FAIL" not in said, said
        step(f"make smoke: {len(checks)} checks passed")
        pool = self.found["UserPoolId"]
        users = self.client("cognito-idp").list_users(UserPoolId=pool)["Users"]
        assert users == [], users
        said = self.make("smoke", "STACK=missing", fails=True)
        assert "make deploy" in said, said
        step("it leaves no user behind, and gives advice if the stack does not exist")

    def sign_in(self):
        self.token = sign_in(self.client("cognito-idp"), self.found, "alice")
        says = claims(self.token)
        self.user, self.issuer = says["sub"], says["iss"]
        step("alice signs in at the stack's own pool and has an access token")

    def tokens(self):
        file = Path(self.environment["HOME"]) / "tokens.txt"
        where = (f"STACK={STACK}", f"FILE={file}")
        for _ in range(2):
            self.make("tokens", "USERS=2", *where)
            users = {claims(token)["sub"] for token in file.read_text().split()}
            assert len(users) == 2 and file.stat().st_mode & 0o077 == 0, users
        said = self.make("tokens", "REMOVE=1", *where)
        assert "Removed 2 users" in said and not file.exists(), said
        step("users for a load test are created, replaced and removed")

    def wscat(self):
        wscat = ROOT / "tests/node/node_modules/.bin/wscat"
        url = f"{websocket_url(self.found)}?token={self.token}"
        return self.started([wscat, "--connect", url])

    def connect(self):
        self.socket = self.wscat()
        until("a row", self.rows)
        step("wscat is connected, and the row is there")
        self.ping(self.socket)
        step("its ping is answered")

    def ping(self, socket):
        """Pings until there is an answer: wscat ignores input until it is ready."""
        for n in range(PATIENCE_SECONDS):
            socket.type_line(json.dumps({"type": "ping", "version": "1.0", "id": str(n)}))
            with contextlib.suppress(queue.Empty):
                line = socket.lines.get(timeout=1)
                if '"pong"' in line:
                    return
        raise AssertionError("no pong")

    def broadcast(self):
        request = {
            "messageId": f"boto3-{uuid.uuid4()}",
            "target": {"type": "user", "userId": self.user},
            "message": {"type": "notification", "data": {"kind": "set.created", "setId": "s1"}},
        }
        report, error = self.invoke(self.found["BroadcasterName"], request)
        assert error is None and report["success"] == 1 and report["failure"] == 0, report
        self.socket.wait_for(request["messageId"], "set.created")
        step("a broadcast through boto3 arrives")

    def channels(self):
        """Every frame about channels, with the roles that the functions have."""
        other = self.wscat()
        self.ping(other)
        channel = "demo:deploy"
        self.send(self.socket, "subscribe", channels=[{"channel": channel}])
        line = self.socket.wait_for('"subscribed"', '"seq":0')
        since = {"epoch": re.search(r'"epoch":"(\w+)"', line)[1], "seq": 0}
        # A message with an id is remembered in another table than its log.
        self.send(other, "publish", channel=channel, kind="deploy.tested", messageId="m1")
        other.wait_for('"published"', '"seq":1')
        self.socket.wait_for("deploy.tested", '"seq":1', '"from"')
        self.send(other, "hello", subscribe={"channels": [{"channel": channel, "since": since}]})
        other.wait_for('"welcome"', '"recovered":true', "deploy.tested")
        self.send(other, "history", channel=channel, after=since)
        other.wait_for('"history"', "deploy.tested")
        self.send(other, "sync", channels=[{"channel": channel, "since": since}])
        other.wait_for('"synced"', '"missed":true')
        assert len(self.scan("SubscriptionsTable")) == 2
        step("a message in a channel arrives, is kept, and is recovered")
        self.send(self.socket, "unsubscribe", channels=[channel])
        self.socket.wait_for('"unsubscribed"')
        other.end()
        until("the end of the subscriptions", lambda: not self.scan("SubscriptionsTable"))
        [departure] = until("a departure", self.departures)
        self.make_due(departure)
        report, error = self.invoke(self.found["SweeperName"], {"action": "sweep"})
        assert error is None and report["complete"], report
        until("the sweep of the departure", lambda: not self.departures())
        sets = [item for item in self.scan("StateTable") if item["pk"]["S"].startswith("session#")]
        assert len(sets) == 1, sets
        step("subscriptions end with their connection, and a sweep ends its departure")

    def send(self, socket, type_, **data):
        socket.type_line(json.dumps({"type": type_, "version": "1.0", "id": "f", "data": data}))

    def scan(self, table):
        return self.client("dynamodb").scan(TableName=self.found[table], ConsistentRead=True)["Items"]

    def departures(self):
        return [item for item in self.scan("StateTable") if "#departure#" in item["sk"]["S"]]

    def make_due(self, departure):
        """Half a minute would pass until it is due by itself."""
        dynamodb, table = self.client("dynamodb"), self.found["StateTable"]
        _, rest = departure["sk"]["S"].split("#", 1)
        now = int(time.time() * 1000)
        dynamodb.put_item(TableName=table, Item=departure | {"sk": {"S": f"{now:013}#{rest}"}})
        dynamodb.delete_item(TableName=table, Key={name: departure[name] for name in ("pk", "sk")})

    def handlers_credentials(self):
        """A user with a REST handler's rights: the policy, and the bucket."""
        self.client("s3").create_bucket(Bucket=BUCKET)
        self.key = self.user_with("handler", "BroadcasterInvokePolicyArn")
        put = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{BUCKET}/*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [put]})
        self.client("iam").put_user_policy(UserName="handler", PolicyName="uploads", PolicyDocument=document)
        self.refuse_to_invoke("SweeperName", {"action": "sweep"}, self.key)
        self.refuse_to_invoke("OperatorName", self.sign_out_request(), self.key)
        step("a REST handler may invoke the broadcaster and no other function")

    def user_with(self, name, policy):
        """The access key of a new IAM user with one of the stack's policies."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        iam.attach_user_policy(UserName=name, PolicyArn=self.found[policy])
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    def refuse_to_invoke(self, function, request, key):
        try:
            self.invoke(self.found[function], request, self.client("lambda", *key))
        except ClientError as error:
            assert error.response["Error"]["Code"] == "AccessDeniedException", error
        else:
            raise AssertionError(f"{function} was invoked")

    def sign_out_request(self):
        request = json.loads((ROOT / "events/operator-sign-out.json").read_text())
        return request | {"userId": self.user}

    def handlers_environment(self):
        return self.environment | {
            "AWS_ACCESS_KEY_ID": self.key[0],
            "AWS_SECRET_ACCESS_KEY": self.key[1],
            "UPLOADS_BUCKET": BUCKET,
            "BROADCASTER_FUNCTION": self.found["BroadcasterName"],
        }

    def stored(self, upload):
        key = f"{self.user}/{upload['uploadId']}"
        return self.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def typescript_example(self):
        environment = self.handlers_environment() | {
            "TOKEN_ISSUER": self.issuer,
            "TOKEN_JWKS_URL": f"{self.emulator.endpoint}/{self.found['UserPoolId']}/.well-known/jwks.json",
            "COGNITO_CLIENT_IDS": self.found["UserPoolClientId"],
            "PORT": "0",
        }
        folder = ROOT / "examples/typescript"
        subprocess.run(["npm", "run", "--silent", "build"], cwd=folder, check=True)
        server = self.started(["node", "dist/serve.js"], cwd=folder, env=environment)
        url = re.search(r"http://\S+", server.wait_for("http://"))[0]

        def post(token, file):
            headers = {"Authorization": f"Bearer {token}"}
            request = urllib.request.Request(f"{url}/?file={file}", b"hello", headers)
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
                return json.load(response)

        try:
            post("nonsense", "a.txt")
        except urllib.error.HTTPError as error:
            assert error.code == 401, error
        else:
            raise AssertionError("a bad token may upload")
        upload = post(self.token, "from-typescript.txt")
        self.socket.wait_for(upload["uploadId"], "from-typescript.txt")
        assert self.stored(upload) == b"hello"
        step("examples/typescript stores an upload, and wscat gets its notification")

    def python_example(self):
        event = {
            "requestContext": {
                "authorizer": {"jwt": {"claims": {"sub": self.user, "token_use": "access"}}}
            },
            "queryStringParameters": {"file": "from-python.txt"},
            "body": base64.b64encode(b"hello").decode(),
            "isBase64Encoded": True,
        }
        run = "import json, sys, handler; print(json.dumps(handler.handler(json.load(sys.stdin), None)))"
        done = subprocess.run(
            [sys.executable, "-c", run],
            cwd=ROOT / "examples/python",
            env=self.handlers_environment(),
            input=json.dumps(event),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=PATIENCE_SECONDS,
        )
        answer = json.loads(done.stdout)
        assert answer["statusCode"] == 201, answer
        upload = json.loads(answer["body"])
        self.socket.wait_for(upload["uploadId"], "from-python.txt")
        assert self.stored(upload) == b"hello"
        step("so does examples/python")

    def dead_letter(self):
        wrong = {"target": {"type": "nobody"}}
        self.invoke(self.found["BroadcasterName"], wrong, InvocationType="Event")
        sqs, url = self.client("sqs"), self.found["FailuresQueueUrl"]

        def received():
            answer = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1)
            return answer.get("Messages")

        [message] = until("a dead letter", received)
        record = json.loads(message["Body"])
        assert record["requestPayload"] == wrong, record
        assert record["responsePayload"]["errorType"] == "InvalidRequest", record
        step("an invalid asynchronous request ends in the queue of failures")

    def read_logs(self):
        """Retention, metrics and secrecy of the functions' log groups."""
        logs = self.client("logs")
        measured = ("Connect", "Disconnect", "Default", "Broadcaster", "Worker", "Sweeper", "Hooks", "Reader")
        for function in (*measured, "Operator"):
            group, messages = self.log(function)
            [found] = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
            assert found["retentionInDays"] == 7, found
            assert self.token not in "".join(messages), f"{group} holds a token"
            metrics = [message for message in messages if '"_aws"' in message]
            assert metrics or function not in measured, f"no metrics in {group}"
            for line in metrics:
                assert json.loads(line)["Stack"] == STACK, line
        step("the functions' log groups have their metrics, and no token")

    def sweep(self):
        until("the schedule's first sweep", lambda: '"SweepDuration"' in "".join(self.log("Sweeper")[1]))
        step("the schedule has run the sweeper")
        report, error = self.invoke(self.found["SweeperName"], {"action": "sweep"})
        assert error is None and report["complete"] and report["failed"] == 0, report
        assert report["connections"] == 1, report
        step("the sweeper, invoked by hand, counts one connection")

    def change_under_load(self):
        """Every way to change the stack, while clients are connected."""
        built = ROOT / os.environ["BUILD_DIR"]
        folder = self.ending.enter_context(tempfile.TemporaryDirectory(prefix="chaos-", dir=built.parent))
        traffic = Traffic(self, ROOT / "tests/node/clients/steady.mjs")
        chaos = Chaos(self, Build(built, Path(folder) / "build"), traffic)
        chaos.by_hand()
        step("functions are replaced, broken and throttled: no connection is closed, and no message lost or doubled")
        chaos.during("new code in every function", chaos.update_code)
        chaos.during("an update that fails and is rolled back", chaos.fail_to_update)
        step("nor by an update of the code, and by one that fails and is rolled back")
        chaos.during("an update of three parameters", self.update)
        chaos.during("an update that adds a hook and HTTP readers", self.add_hook_and_readers)
        traffic.close()
        until("the removal of the clients' rows", lambda: not traffic.client_rows())
        step("nor by these updates; who noticed what:")
        chaos.print_table()

    def redeploy(self, *parameters, fails=False):
        changed = " ".join(("AccessLog=true", *parameters))
        return self.make("deploy", f"STACK={STACK}", f"PARAMETERS={changed}", fails=fails)

    def update(self):
        before, row = self.resources(), self.rows()
        self.redeploy("MaxConnections=50", "PostsPerSecond=2000", "BroadcastAllIntervalSeconds=0")
        assert self.resources() == before, "an update replaced something"
        [after] = self.rows()
        assert after["connectionId"] == row[0]["connectionId"], after
        settings = self.client("lambda").get_function_configuration(FunctionName=before["Connect"])
        assert settings["Environment"]["Variables"]["MAX_CONNECTIONS"] == "50", settings
        self.socket.type_line(json.dumps({"type": "ping", "version": "1.0", "id": "after"}))
        self.socket.wait_for("pong", '"after"')
        step("an update of three parameters keeps every resource, the row and the connection")

    def split(self):
        """A broadcast with one connection per worker."""
        other = self.wscat()
        until("two rows", lambda: len(self.rows()) == 2)
        request = {
            "messageId": f"split-{uuid.uuid4()}",
            "target": {"type": "all"},
            "message": {"type": "notification", "data": {"kind": "set.created", "setId": "s2"}},
            "waitSeconds": 20,
        }
        report, error = self.invoke(self.found["BroadcasterName"], request)
        assert error is None and report["status"] == "done" and report["success"] == 2, report
        for socket in (self.socket, other):
            socket.wait_for(request["messageId"])
        assert '"_aws"' in "".join(self.log("Worker")[1])
        other.end()
        until("one row", lambda: len(self.rows()) == 1)
        step("two workers share a broadcast to all, and it arrives")

    def add_hook_and_readers(self):
        hook = self.application_function("hook", "def handler(event, context):\n    print(event)\n")
        before = self.resources()
        assert not {"Hooks", "Reader", "ReaderUrl"} & set(before), before
        self.redeploy(f"HookFunction={hook}", "ReaderConcurrency=5", "StreamSeconds=1", "ConnectionsPerWorker=1")
        self.found, after = self.outputs(), self.resources()
        assert before.items() <= after.items(), "an update replaced something"
        for function, setting in [("Hooks", ("HOOK_FUNCTION", hook)), ("Reader", ("STREAM_SECONDS", "1"))]:
            found = self.client("lambda").get_function_configuration(FunctionName=after[function])
            assert setting in found["Environment"]["Variables"].items(), found
        step("an update with a hook and HTTP readers adds the functions Hooks and Reader")

    def application_function(self, name, code):
        """The ARN of a function that is not Belfry's. It may only write its log."""
        trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        role = self.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("index.py", code)
        function = self.client("lambda").create_function(
            FunctionName=name,
            Runtime="python3.12",
            Handler="index.handler",
            Role=role["Arn"],
            Code={"ZipFile": archive.getvalue()},
        )
        return function["FunctionArn"]

    def hook(self):
        before = self.connection_ids()
        socket = self.wscat()
        [connection] = until("a row", lambda: self.connection_ids() - before)
        until("the event of the connect", lambda: self.hook_has("connection.opened", connection))
        socket.end()
        until("the event of the end", lambda: self.hook_has("connection.closed", connection))
        until("the end of the events", lambda: not self.events())
        step("the hook is told that a connection opens and closes, and nothing waits any more")

    def hook_has(self, *parts):
        logs = self.client("logs")
        # Lambda creates the group with the first line.
        groups = logs.describe_log_groups(logGroupNamePrefix="/aws/lambda/hook")["logGroups"]
        names = [group["logGroupName"] for group in groups]
        pages = [page for name in names for page in logs.get_paginator("filter_log_events").paginate(logGroupName=name)]
        messages = [event["message"] for page in pages for event in page["events"]]
        return any(all(part in message for part in parts) for message in messages)

    def events(self):
        return [item for item in self.scan("StateTable") if item["pk"]["S"].startswith("event")]

    def readers(self):
        """The function URL. The emulator serves it at another address, sends a
        stream as a whole when it has ended, and does not take the reserved
        concurrency from the template."""
        lambda_, name = self.client("lambda"), self.resources()["Reader"]
        url = lambda_.get_function_url_config(FunctionName=name)
        assert url["FunctionUrl"] == self.found["ReaderUrl"], url
        assert (url["AuthType"], url["InvokeMode"]) == ("NONE", "RESPONSE_STREAM"), url
        policy = json.loads(lambda_.get_policy(FunctionName=name)["Policy"])
        actions = {statement["Action"] for statement in policy["Statement"]}
        assert actions == {"lambda:InvokeFunction", "lambda:InvokeFunctionUrl"}, policy
        channel = "demo:readers"
        empty = self.read("messages", f"channel={channel}")
        assert empty["messages"] == [], empty
        message = {"channel": channel, "kind": "job.done", "data": 1}
        published = self.read("messages", body=message)
        assert published["position"]["seq"] == 1, published
        polled = self.read("messages", f"channel={channel}&cursor={empty['cursor']}")
        assert [one["data"]["kind"] for one in polled["messages"]] == ["job.done"], polled
        stream = self.read("events", f"channel={channel}&cursor={empty['cursor']}")
        assert "event: subscribed" in stream and "job.done" in stream, stream
        try:
            self.read("messages", f"channel={channel}", token="nonsense")
        except urllib.error.HTTPError as error:
            assert error.code == 401, error
        else:
            raise AssertionError("a bad token may read")
        step("an HTTP reader publishes, polls and gets a stream, and needs a token")

    def read(self, path, query="", body=None, token=None):
        """What the function URL answers."""
        host = urlsplit(self.found["ReaderUrl"]).hostname
        url = f"{self.emulator.endpoint}/_aws/lambda-url/{host.split('.')[0]}/{path}?{query}"
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token or self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(url, data, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
            text = response.read().decode()
            return json.loads(text) if "json" in response.headers["Content-Type"] else text

    def refuse_parameters(self):
        for wrong, expected in [
            ("MaxConnections=0", "MaxConnections must be a whole number from 1 to 10000000."),
            ("MaxConnection=100", "did you mean MaxConnections"),
            ("AllowedOrigins=localhost:5173", "write http://localhost:5173"),
        ]:
            said = self.make("deploy", f"STACK={STACK}", f"PARAMETERS={wrong}", fails=True)
            assert expected in said, said
        for name, wrong in [
            ("AllowedOrigins", "example.com"),
            ("AllowedOrigins", "https://a.example/path"),
            ("Architecture", "mips"),
            ("CognitoUserPoolId", "pool"),
            ("HeartbeatIntervalSeconds", "600"),
            ("MaxConnections", "0"),
            ("TokenIssuer", "ftp://issuer"),
        ]:
            parameter = {"ParameterKey": name, "ParameterValue": wrong}
            try:
                self.client("cloudformation").update_stack(
                    StackName=STACK,
                    UsePreviousTemplate=True,
                    Parameters=[parameter],
                    Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
                )
            except ClientError as error:
                assert error.response["Error"]["Code"] == "ValidationError", error
                assert name in str(error), error
            else:
                raise AssertionError(f"{name}={wrong} was accepted")
        step("CloudFormation refuses parameters out of range")
        alone = "PARAMETERS=TokenIssuer=https://issuer.example"
        said = self.make("deploy", f"STACK={STACK}", alone, fails=True)
        assert "need CognitoClientIds" in said, said
        step("and parameters that do not fit together")
        said = self.make("deploy", f"STACK={STACK}", "CONFIG=prod", fails=True)
        assert "has the stage dev" in said, said
        said = self.make("deploy", f"STACK={STACK}", "PARAMETERS=Architecture=arm64", fails=True)
        assert "make build ARCHITECTURE=arm64" in said, said
        step("make deploy refuses an accidental change of the stage, and an architecture that was not built")

    def fail_at_start(self):
        """A function without a setting names it."""
        lambda_, name = self.client("lambda"), self.resources()["Broadcaster"]
        before = lambda_.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        wanted = "WEBSOCKET_CONNECTION_TABLE"
        less = {key: value for key, value in before.items() if key != wanted}
        lambda_.update_function_configuration(FunctionName=name, Environment={"Variables": less})
        # The emulator puts a function's last output into the answer.
        answer, error = self.invoke(name, {})
        assert error and f"{wanted} is not set" in answer["errorMessage"], answer
        lambda_.update_function_configuration(FunctionName=name, Environment={"Variables": before})
        step("a function without a setting fails at startup and names it")

    def disconnect(self):
        self.socket.end()
        until("the row's removal", lambda: not self.rows())
        step("wscat has closed, and the row is gone")

    def operate(self):
        """The commands of `belfry ops`, as a user who may operate the stack and do nothing else."""
        self.operator = self.user_with("operator", "OperatorInvokePolicyArn")
        self.refuse_to_invoke("BroadcasterName", {}, self.operator)
        socket, channel = self.wscat(), "demo:deploy"
        self.ping(socket)
        self.send(socket, "subscribe", channels=[{"channel": channel, "presence": {}}])
        socket.wait_for('"subscribed"', '"presence"')
        self.send(socket, "lock", channel=channel, name="title", seconds=300)
        socket.wait_for('"locked"')
        mine = ("--user", self.user)
        [connection] = self.ops("list", *mine)["connections"]
        # Not `inspect`: the emulator does not say when a connection was opened.
        assert self.ops("list", "--channel", channel)["connections"] == [connection]
        stats = self.ops("stats")
        assert stats["channels"]["largest"] == [{"channel": channel, "subscribers": 1}], stats
        assert self.ops("presence", channel)["count"] == 1
        assert len(self.ops("locks", channel)["held"]) == 1
        assert self.ops("unlock", channel, "title")["released"]
        step("belfry ops lists and counts, and releases a lock")
        told = self.ops("purge", channel)["told"]
        assert told["success"] == 1, told
        socket.wait_for('"history.purged"')
        asked = self.ops("drain", *mine, "--within", "10")
        assert asked["success"] == 1, asked
        socket.wait_for('"reconnect"', '"withinMs":10000')
        kicked = self.ops("kick", *mine, "--code", "closed-by-operator")
        assert kicked["success"] == 1, kicked
        socket.wait_for("CLOSED_BY_OPERATOR")
        until("the row's removal", lambda: not self.rows())
        assert self.ops("report", kicked["messageId"]) == kicked
        assert self.ops("resume", asked["messageId"])["status"] == "done"
        step("it purges a history, asks a client to reconnect, and closes its connection")
        _, messages = self.log("Operator")
        # Not by whom: the emulator passes no client context on.
        [line] = [message for message in messages if "operator.kick" in message]
        assert json.loads(line)["target"] == f"user {self.user}", line
        step("the log says what was done")

    def ops(self, *arguments):
        """The report of a command, which must succeed."""
        id_, secret = self.operator
        done = subprocess.run(
            [ROOT / "target/debug/belfry", "ops", *arguments, "--stack", STACK, "--json"],
            env=self.environment | {"AWS_ACCESS_KEY_ID": id_, "AWS_SECRET_ACCESS_KEY": secret},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (arguments, done)
        return json.loads(done.stdout)

    def sign_out(self):
        self.ping(self.wscat())
        report, error = self.invoke(
            self.found["OperatorName"], self.sign_out_request(), self.client("lambda", *self.operator)
        )
        assert error is None and report == {"closed": 1, "failed": 0, "notEnded": 0}, report
        assert not self.rows()
        # The emulator turns every refusal into 403.
        self.wscat().wait_for("403")
        step("alice is signed out: her connection is closed, and her token opens no other")

    def change_stage(self):
        said = self.make("deploy", f"STACK={STACK}", "PARAMETERS=AccessLog=true Stage=staging")
        self.found = self.outputs()
        url = websocket_url(self.found)
        assert url.endswith("/staging") and url in said, said
        self.token = sign_in(self.client("cognito-idp"), self.found, "bob")
        socket = self.wscat()
        self.ping(socket)
        ended = self.ended_connections()
        socket.end()
        # A log line that came after the stack's end would create its group again.
        until("the log of the end", lambda: self.ended_connections() > ended)
        step("another stage has its own addresses, and serves clients there")

    def ended_connections(self):
        _, messages = self.log("Disconnect")
        return sum("connection.ended" in message for message in messages)

    def delete(self):
        cloudformation, logs = self.client("cloudformation"), self.client("logs")
        names = set(self.resources().values())

        def there():
            return {name for name in self.everything() if name in names or name.startswith(STACK)}

        before = there()
        assert len(before) > 50, before
        began = time.time() * 1000
        cloudformation.delete_stack(StackName=STACK)
        cloudformation.get_waiter("stack_delete_complete").wait(
            StackName=STACK, WaiterConfig={"Delay": 1}
        )

        def all_gone():
            for group in logs.describe_log_groups()["logGroups"]:
                name = group["logGroupName"]
                # A function that was still running has created it again.
                if name in names and group["creationTime"] > began:
                    logs.delete_log_group(logGroupName=name)
            return not there()

        with contextlib.suppress(AssertionError):
            until("the end of everything", all_gone)
        assert not there(), f"left behind: {there()}"
        step(f"deleted {STACK}: none of its {len(before)} functions, tables, roles, logs and alarms is left")

    def everything(self):
        """Names of all resources of the types that cost money or store data."""
        yield from self.client("dynamodb").list_tables()["TableNames"]
        for function in self.client("lambda").list_functions()["Functions"]:
            yield function["FunctionName"]
        for group in self.client("logs").describe_log_groups()["logGroups"]:
            yield group["logGroupName"]
        for role in self.client("iam").list_roles()["Roles"]:
            yield role["RoleName"]
        for api in self.client("apigatewayv2").get_apis()["Items"]:
            yield api["ApiId"]
        for pool in self.client("cognito-idp").list_user_pools(MaxResults=60)["UserPools"]:
            yield pool["Id"]
        for schedule in self.client("scheduler").list_schedules()["Schedules"]:
            yield schedule["Name"]
        for alarm in self.client("cloudwatch").describe_alarms()["MetricAlarms"]:
            yield alarm["AlarmName"]
        yield from self.client("sqs").list_queues().get("QueueUrls", [])


def main():
    ministack = ROOT / ".venv/ministack/bin/ministack"
    # Retries failed asynchronous events within seconds instead of minutes.
    retries = {"LAMBDA_ASYNC_RETRY_BASE_SECONDS": "1", "LAMBDA_ASYNC_RETRY_MAX_SECONDS": "1"}
    with contextlib.ExitStack() as ending, tempfile.TemporaryDirectory() as home:
        emulator = ending.enter_context(Emulator(str(ministack), iam=True, settings=retries))
        step(f"MiniStack listens on {emulator.endpoint} and evaluates IAM policies")
        scenario = Scenario(emulator, ending)
        # The SAM CLI keeps its settings and a cache there.
        scenario.environment["HOME"] = home
        try:
            scenario.refuse_to_deploy_without_credentials()
            scenario.deploy()
            scenario.smoke()
            scenario.sign_in()
            scenario.tokens()
            scenario.connect()
            scenario.broadcast()
            scenario.channels()
            scenario.handlers_credentials()
            scenario.typescript_example()
            scenario.python_example()
            scenario.dead_letter()
            scenario.sweep()
            scenario.change_under_load()
            scenario.split()
            scenario.hook()
            scenario.readers()
            scenario.refuse_parameters()
            scenario.fail_at_start()
            scenario.disconnect()
            scenario.operate()
            scenario.sign_out()
            scenario.read_logs()
            scenario.change_stage()
            scenario.delete()
        except BaseException:
            print("The end of MiniStack's log:\n" + emulator.log.read_text()[-5000:], file=sys.stderr)
            raise
    step("everything has stopped")


if __name__ == "__main__":
    main()
