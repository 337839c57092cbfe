"""Deploys the built Belfry to MiniStack, without limits that a load would reach.

Prints one line of JSON when clients can connect. SIGTERM ends the emulator and
everything in it. It needs what `make test-deploy` needs, and `make build` first.
"""

import argparse
import contextlib
import json
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
sys.path[:0] = [str(ROOT / "tests/deploy"), str(ROOT / "tools")]

from belfry_stack import claims, sign_in, websocket_url  # noqa: E402
from emulator import Emulator  # noqa: E402
from scenario import STACK, Scenario  # noqa: E402

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# The largest MaxConnectionsPerUser, so a load needs several users.
PER_USER = 1000

PARAMETERS = {
    "MaxConnections": 20000,
    "MaxConnectionsPerUser": PER_USER,
    "MessagesPerMinute": 60000,
    "ConnectsPerSecond": 100000,
    "FramesPerSecond": 100000,
    "BroadcastAllIntervalSeconds": 0,
    "ConnectionsPerWorker": 20000,
    "MaxWorkers": 1,
    "PostsPerSecond": 100000,
    # The emulator is slow: a late post has not failed.
    "PostTimeoutMs": 29000,
}


def end(*_):
    # A second signal must not interrupt the cleanup.
    for ending in ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    sys.exit(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=13, help=f"each has up to {PER_USER} connections")
    given = parser.parse_args()
    for ending in ENDINGS:
        signal.signal(ending, end)
    # MiniStack and its functions inherit the limit.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    ministack = ROOT / ".venv/ministack/bin/ministack"
    with contextlib.ExitStack() as ending:
        emulator = ending.enter_context(Emulator(str(ministack), settings={"LOG_LEVEL": "WARNING"}))
        # On SIGTERM, MiniStack starts a $disconnect process for every socket at
        # once. Hundreds of them stall the whole machine for minutes.
        ending.callback(emulator.kill)
        scenario = Scenario(emulator, ending)
        # The SAM CLI keeps its settings and a cache in HOME.
        scenario.environment["HOME"] = ending.enter_context(tempfile.TemporaryDirectory())
        parameters = " ".join(f"{name}={value}" for name, value in PARAMETERS.items())
        scenario.make("deploy", f"STACK={STACK}", f"PARAMETERS={parameters}")
        scenario.found = scenario.outputs()
        cognito = scenario.client("cognito-idp")
        tokens = [sign_in(cognito, scenario.found, f"user-{n}") for n in range(given.users)]
        where = {
            "websocket": websocket_url(scenario.found),
            "lambda": emulator.endpoint,
            "function": scenario.found["BroadcasterName"],
            # In the order of the tokens.
            "users": [claims(token)["sub"] for token in tokens],
            "tokens": tokens,
        }
        print(json.dumps(where), flush=True)
        emulator.wait()
        sys.exit("MiniStack has ended:\n" + emulator.log.read_text()[-5000:])


if __name__ == "__main__":
    main()
