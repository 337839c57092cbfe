"""Deploys Belfry as it was built to MiniStack, with nothing that limits a load.

Prints one line of JSON when clients can connect; SIGTERM ends it and all that
is in it. It needs what `make test-deploy` needs, and `make build` before.
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

# A user may have 1,000 connections at most, so there are several.
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
    # It is slow: a post that is only late is none that failed.
    "PostTimeoutMs": 29000,
}


def end(*_):
    # A second one must not interrupt what the first has begun.
    for ending in ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    sys.exit(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=13, help=f"each has up to {PER_USER} connections")
    given = parser.parse_args()
    for ending in ENDINGS:
        signal.signal(ending, end)
    # MiniStack and its functions inherit it.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    ministack = ROOT / ".venv/ministack/bin/ministack"
    with contextlib.ExitStack() as ending:
        emulator = ending.enter_context(Emulator(str(ministack), settings={"LOG_LEVEL": "WARNING"}))
        # Asked to end, it starts a process of $disconnect for each socket, all at
        # a time: hundreds stop the whole machine for minutes.
        ending.callback(emulator.kill)
        scenario = Scenario(emulator, ending)
        # The SAM CLI keeps settings and a cache there.
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
            # The n-th token is the n-th user's.
            "users": [claims(token)["sub"] for token in tokens],
            "tokens": tokens,
        }
        print(json.dumps(where), flush=True)
        emulator.wait()
        sys.exit("MiniStack has ended:\n" + emulator.log.read_text()[-5000:])


if __name__ == "__main__":
    main()
