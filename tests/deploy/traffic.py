"""Traffic on a deployed stack: clients, newcomers, and an application's server."""

import json
import threading
import time

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from belfry_stack import claims, sign_in, websocket_url

CHANNEL = "demo:chaos"
CLIENTS = 4

# Longest wait for one answer of the clients' process, and in it, for two things.
ANSWER_SECONDS = 150
SETTLE_SECONDS = 60

# Longest time in which `$disconnect` removes a row.
REMOVAL_SECONDS = 4


class Server:
    """Publishes through the broadcaster once a second, and repeats what failed."""

    def __init__(self, scenario):
        # Each attempt counts.
        single = Config(retries={"total_max_attempts": 1})
        self.lambda_ = scenario.client("lambda", config=single)
        self.function = scenario.found["BroadcasterName"]
        self.number = 0

    def begin(self):
        self.outcomes, self.announced = {}, []
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def end(self):
        self.ending.set()
        self.thread.join()

    def _run(self):
        while not self.ending.wait(1):
            self.number += 1
            while not self._publish(f"server-{self.number}"):
                time.sleep(0.5)

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
        self.rows = self._newcomer_rows()
        self._ask("begin")
        self.server.begin()

    def end(self):
        """What everybody has noticed. Nobody may have lost anything."""
        self.server.end()
        seen = self._ask("settle", announced=self.server.announced, seconds=SETTLE_SECONDS)
        assert seen["isAcknowledged"] and not seen["wrong"] and not seen["behind"], seen
        assert seen["newcomers"].pop("last") == "welcome", seen
        return seen | {"server": self.server.outcomes, "rowsLeft": self._rows_left()}

    def close(self):
        self._ask("close")

    def client_rows(self):
        return self._rows_of(self.clients)

    def _ask(self, command, **parameters):
        self.process.type_line(json.dumps({"command": command, **parameters}))
        return json.loads(self.process.lines.get(timeout=ANSWER_SECONDS))

    def _newcomer_rows(self):
        return self._rows_of([self.newcomer])

    def _rows_of(self, users):
        return sum(row["userId"]["S"] in users for row in self.scenario.scan("ConnectionsTable"))

    def _rows_left(self):
        """Rows of newcomers who have left since the beginning."""
        end = time.monotonic() + REMOVAL_SECONDS
        while (left := self._newcomer_rows() - self.rows) > 0 and time.monotonic() < end:
            time.sleep(0.1)
        return max(left, 0)
