"""Traffic on a deployed stack: clients, newcomers, and an application's server."""

import json
import threading
import time

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from belfry_stack import claims, sign_in, websocket_url

CHANNEL = "demo:chaos"
CLIENTS = 4

# Longest wait for one thing to settle, and for an answer of the clients' process, which waits for several.
SETTLE_SECONDS = 60
ANSWER_SECONDS = 4 * SETTLE_SECONDS

# How long `$disconnect` has to remove a row: usually, and if it is expected to fail.
REMOVAL_SECONDS = 60
FAILED_REMOVAL_SECONDS = 4


class Server:
    """Publishes through the broadcaster once a second, and repeats what failed."""

    def __init__(self, scenario):
        # Each attempt counts.
        single = Config(retries={"total_max_attempts": 1})
        self.lambda_ = scenario.client("lambda", config=single)
        self.function = scenario.found["BroadcasterName"]
        self.number = 0

    def begin(self):
        self.outcomes, self.announced, self.error = {}, [], None
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def end(self):
        self.ending.set()
        self.thread.join(SETTLE_SECONDS)
        assert not self.thread.is_alive(), f"the server cannot publish: {self.outcomes}"
        if self.error:
            raise self.error

    def _run(self):
        try:
            while not self.ending.wait(1):
                self.number += 1
                while not self._publish(f"server-{self.number}"):
                    time.sleep(0.5)
        except Exception as error:
            self.error = error

    def _publish(self, id_):
        request = {
            "messageId": id_,
            "target": {"type": "channel", "channel": CHANNEL},
            "message": {"type": "notification", "data": {"kind": "chaos.announcement"}},
        }
        position = None
        try:
            answer = self.lambda_.invoke(FunctionName=self.function, Payload=json.dumps(request))
            report = json.load(answer["Payload"])
            position = report.get("position")
            outcome = "ok" if position else report.get("errorType", "no position")
        except ClientError as error:
            outcome = error.response["Error"]["Code"]
        except BotoCoreError as error:
            outcome = type(error).__name__
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        if position:
            self.announced.append({"id": id_, "position": position})
        return position


class Traffic:
    """Everybody who uses the stack: see tests/node/clients/steady.mjs."""

    def __init__(self, scenario, program):
        self.scenario = scenario
        self.server = Server(scenario)
        cognito = scenario.client("cognito-idp")
        tokens = [sign_in(cognito, scenario.found, f"chaos-{number}") for number in range(CLIENTS + 1)]
        *self.clients, self.newcomer = (claims(token)["sub"] for token in tokens)
        self.process = scenario.started(["node", program])
        self._ask("open", url=websocket_url(scenario.found), channel=CHANNEL, tokens=tokens)

    def begin(self):
        self.rows = self.newcomer_rows()
        self._ask("begin")
        self.server.begin()

    def noticed(self, rows):
        """What everybody has noticed so far. `rows`: those of newcomers when the outage began."""
        # The last newcomer may still be connected.
        left = max(len(self.newcomer_rows() - rows) - 1, 0)
        return self._ask("noticed") | {"server": dict(self.server.outcomes), "rowsLeft": left}

    def end(self, leaves_rows=False):
        """What everybody has noticed. Nobody may have lost anything."""
        self.server.end()
        seen = self._ask("settle", announced=self.server.announced, seconds=SETTLE_SECONDS)
        assert seen["isAcknowledged"] and not seen["wrong"] and not seen["behind"], seen
        assert seen["newcomers"].pop("last") == "welcome", seen
        return seen | {"server": self.server.outcomes, "rowsLeft": self._rows_left(leaves_rows)}

    def close(self):
        self._ask("close")

    def client_rows(self):
        return self._rows_of(self.clients)

    def _ask(self, command, **parameters):
        self.process.type_line(json.dumps({"command": command, **parameters}))
        return json.loads(self.process.lines.get(timeout=ANSWER_SECONDS))

    def newcomer_rows(self):
        return self._rows_of([self.newcomer])

    def _rows_of(self, users):
        """The ids of these users' connections."""
        rows = self.scenario.scan("ConnectionsTable")
        return {row["connectionId"]["S"] for row in rows if row["userId"]["S"] in users}

    def _rows_left(self, leaves_rows):
        """How many rows remain of newcomers who have left since the beginning."""
        end = time.monotonic() + (FAILED_REMOVAL_SECONDS if leaves_rows else REMOVAL_SECONDS)
        while (left := self.newcomer_rows() - self.rows) and time.monotonic() < end:
            time.sleep(0.1)
        return len(left)
