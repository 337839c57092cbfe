"""Runs the commands in the examples' README, against the local stack and an
emulator's S3.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from emulator import Emulator  # noqa: E402
from scenario import PATIENCE_SECONDS, Lines, step  # noqa: E402

BELFRY = ROOT / "target/debug/belfry"
WSCAT = ROOT / "tests/node/node_modules/.bin/wscat"

# A developer's own settings must not change what the lines do.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}


def blocks(title, addresses):
    """The commands of each block below a title, with other addresses."""
    section = (ROOT / "examples/README.md").read_text().split(f"\n## {title}")[1].split("\n## ")[0]
    for written, real in addresses.items():
        section = section.replace(written, real)
    for block in re.findall(r"^```\n(\$ .*?)^```$", section, re.MULTILINE | re.DOTALL):
        yield "\n".join(line[2:] for line in block.splitlines() if line.startswith("$ "))


def run(commands):
    done = subprocess.run(
        ["bash", "-e", "-c", commands],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
    return done.stdout


def upload_id(text):
    upload = json.loads(text[text.index("{"):])
    assert upload["file"] == "README.md", text
    return upload["uploadId"]


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

        serve, upload = blocks("TypeScript", addresses)
        # The shell is killed with npm and node.
        server = started(["bash", "-e", "-c", serve.replace("PORT=3000", "PORT=0")], start_new_session=True)
        ending.callback(os.killpg, server.process.pid, signal.SIGKILL)
        url = re.search(r"http://127\S+", server.wait_for("http://127"))[0]
        alice.wait_for(upload_id(run(upload.replace("http://127.0.0.1:3000", url))))
        step("examples/typescript runs as its README says")

        [upload] = blocks("Python", addresses)
        alice.wait_for(upload_id(run(upload)))
        step("so does examples/python")


if __name__ == "__main__":
    main()
