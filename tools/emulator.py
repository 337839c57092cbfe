"""Runs MiniStack, an AWS emulator, on this machine, to deploy without an account.

It keeps its data in a temporary folder, which is deleted when it stops.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

READY_SECONDS = 120
STOP_SECONDS = 15
# Another process may take a free port before MiniStack does.
PORTS_TRIED = 3

# The emulator accepts any credentials. With IAM evaluation, these are the
# account's root.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Emulator:
    """A running MiniStack. Functions are its child processes and end with it."""

    def __init__(self, ministack, port=0, iam=False, settings=None):
        self._given = (ministack, port, iam, settings)
        self._ports_left = 1 if port else PORTS_TRIED
        self._start(*self._given)

    def _start(self, ministack, port, iam, settings):
        self._ports_left -= 1
        self.port = port or free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._folder = tempfile.TemporaryDirectory(prefix="belfry-emulator-")
        folder = Path(self._folder.name)
        for name in ("home", "tmp"):
            (folder / name).mkdir()
        self.log = folder / "ministack.log"
        # Nothing is inherited: functions get MiniStack's whole environment, and
        # a developer's real credentials must not be in it. The endpoint is
        # there, or they would call the real AWS.
        environment = CREDENTIALS | {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "AWS_ENDPOINT_URL": self.endpoint,
            "STATE_DIR": str(folder / "state"),
            "GATEWAY_PORT": str(self.port),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "AUTH": "true" if iam else "false",
        }
        with self.log.open("w") as log:
            # A session of its own, so that stopping it leaves no process behind.
            self._process = subprocess.Popen(
                [ministack],
                cwd=folder,
                env=environment | (settings or {}),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self):
        end = time.monotonic() + READY_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"{self.endpoint}/_ministack/health", timeout=1).close()
                return self
            except OSError as error:
                ended = self._process.poll() is not None
                if ended and self._ports_left:
                    self.stop()
                    self._start(*self._given)
                elif ended or time.monotonic() > end:
                    said = self.log.read_text()[-2000:]
                    self.stop()
                    raise RuntimeError(f"MiniStack does not answer ({error}):\n{said}") from error
                time.sleep(0.1)

    def __exit__(self, *_):
        self.stop()

    def wait(self):
        self._process.wait()

    def stop(self):
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        self.kill()
        self._process.wait()
        self._folder.cleanup()

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ministack", required=True, help="path of the program ministack")
    parser.add_argument("--port", type=int, default=4566)
    given = parser.parse_args()
    # Closing the terminal stops it, as Ctrl-C does.
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda *_: sys.exit(0))
    print("Starting the emulator…", flush=True)
    try:
        with Emulator(given.ministack, given.port) as emulator:
            print(
                f"MiniStack listens on {emulator.endpoint}; Ctrl-C stops it and deletes everything in it.\n"
                "In another terminal:\n"
                f"  export AWS_ENDPOINT_URL={emulator.endpoint}\n"
                "  export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1\n"
                "  make build deploy",
                flush=True,
            )
            emulator.wait()
    except RuntimeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
