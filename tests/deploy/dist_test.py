"""Uses a release as people do who have Python and Node, and neither Rust nor make.

Takes the folder that tools/dist.py wrote to. Each part starts in an empty folder:
the local stack from the archive, the local stack from the packages for npm, and
a deployment to an emulator.
"""

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import dist  # noqa: E402
from emulator import CREDENTIALS, Emulator  # noqa: E402
from scenario import PATIENCE_SECONDS, Lines, step  # noqa: E402

STACK = "belfry-release"
FREE_PORTS = ["--port", "0", "--dynamodb-port", "0", "--url-port", "0", "--json"]

# All that there is in PATH: the two languages, and what the scripts call.
PROGRAMS = ["node", "npm", "npx", "sh", "cat", "dirname"]

# Longest time for a command. Some install or deploy.
COMMAND_SECONDS = 600


def environment(folder):
    """What a user's shell has, without any other program."""
    programs, home = folder / "programs", folder / "home"
    home.mkdir()
    programs.mkdir()
    for name in PROGRAMS:
        (programs / name).symlink_to(Path(shutil.which(name)).resolve())
    (programs / "python3").symlink_to(Path(sys.executable).resolve())
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BUILD_", "npm_"))}
    # pip's settings and downloads are the developer's.
    settings = {f"XDG_{kind}_HOME": str(Path.home() / f".{kind.lower()}") for kind in ("CACHE", "CONFIG")}
    return kept | settings | {"PATH": str(programs), "HOME": str(home), "npm_config_offline": "true"}


def empty(folder, name):
    path = folder / name
    path.mkdir()
    return path


def run(command, folder, environment, fails=False):
    done = subprocess.run(
        command, cwd=folder, env=environment, timeout=COMMAND_SECONDS, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    assert (done.returncode != 0) == fails, f"{command}: {done.returncode}\n{done.stdout}"
    return done.stdout


def check_packing(folder):
    """dist.py refuses what would not run elsewhere, and repeats itself."""
    (folder / "a").write_text("#!/bin/sh\n")
    files = {"b": "text", "a": folder / "a"}
    dist.write(folder / "one.tgz", "x", files)
    os.utime(folder / "a", (1, 1))
    dist.write(folder / "two.tgz", "x", dict(reversed(files.items())))
    assert (folder / "one.tgz").read_bytes() == (folder / "two.tgz").read_bytes()
    step("the same files make the same archive")
    command = [sys.executable, ROOT / "tools/dist.py", "--built", ".aws-sam/test", "--to", folder]
    said = run([*command, "--belfry", "target/debug/belfry"], ROOT, os.environ, fails=True)
    assert "is not a static program" in said, said
    command += ["--debug", "--belfry", "target/debug/belfry", "--built", folder]
    said = run(command, ROOT, os.environ, fails=True)
    assert "has other functions than template.yaml" in said and "make build" in said, said
    step("a dynamic program and missing functions are refused")


def check_refusals():
    """What `make dist` cannot honour, it refuses before it builds anything."""
    for setting in ("CHANNELS=rules.json", "PARAMETERS=MaxConnections=500", "BUILD_PROFILE=debug"):
        command = ["make", "--dry-run", "dist", setting]
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "BUILD_"))}
        done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 2 and "A release" in done.stderr, (setting, done.stderr)


def use(belfry, folder, environment, ending):
    """Starts the local stack, and sends a message through it from alice to bob, who
    stays connected."""
    stack = Lines([*belfry, "run", *FREE_PORTS], cwd=folder, env=environment, start_new_session=True)
    ending.callback(stop, stack)
    address = json.loads(stack.wait_for('"event":"ready"'))["lambda"]
    (folder / "line.json").write_text('{"text":"hi"}')
    at_stack = ["--endpoint", address, "--user"]
    listen = [*belfry, "subscribe", "demo:room", *at_stack, "bob"]
    bob = Lines(listen, cwd=folder, env=environment, start_new_session=True)
    ending.callback(stop, bob)
    bob.wait_for("connected as bob")
    bob.wait_for("demo:room")
    run([*belfry, "publish", "demo:room", "line.json", "--kind", "chat.line", *at_stack, "alice"], folder, environment)
    bob.wait_for('"type":"message"', '"text":"hi"')
    return stack, address


def stop(lines):
    """Kills the session of a process."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(lines.process.pid, signal.SIGKILL)
    lines.process.wait()


def is_gone(address):
    try:
        urlopen(f"{address}/_local/stack", timeout=PATIENCE_SECONDS).close()
    except OSError:
        return True
    return False


def run_from_the_archive(release, folder, environment, ending):
    own = empty(folder, "elsewhere")
    # Another stack's template in the folder must not be taken for Belfry's.
    (own / "template.yaml").write_text("Resources: {}\n")
    stack, address = use([release / "belfry"], own, environment, ending)
    stack.process.send_signal(signal.SIGTERM)
    assert stack.process.wait(PATIENCE_SECONDS) == 0 and is_gone(address)
    step("./belfry run serves clients, started in another folder")


def run_from_npm(packages, folder, environment, ending):
    project = empty(folder, "project")
    # npm does without the package for another architecture, which is nowhere.
    run(["npm", "install", "--no-audit", "--no-fund", *packages], project, environment)
    said = run(["npx", "belfry", "--version"], project, environment)
    assert said == f"belfry {dist.version()}\n", said
    stack, address = use(["npx", "belfry"], project, environment, ending)
    stop(stack)
    assert is_gone(address)
    command = project / "node_modules/.bin/belfry"
    stack, address = use([command], project, environment, ending)
    stack.process.send_signal(signal.SIGTERM)
    assert stack.process.wait(PATIENCE_SECONDS) == 0 and is_gone(address)
    assert "unexpected argument" in run([command, "run", "--nonsense"], project, environment, fails=True)
    step("npx belfry run serves clients; a signal stops both processes, and exit codes are passed on")
    [platform] = (project / "node_modules/@belfry").iterdir()
    press_ctrl_c(command, platform / "belfry", environment)
    shutil.rmtree(platform)
    said = run([command, "run"], project, environment, fails=True)
    assert f"@belfry/{platform.name} is not installed" in said, said
    step("without the package of the platform it names that")


# Takes belfry's place, and says which signals come.
SIGNALS = """#!/usr/bin/env node
process.on("SIGINT", () => console.log("SIGINT"));
process.on("SIGTERM", () => process.exit(7));
setInterval(() => {}, 60_000);
console.log("ready");
"""


def press_ctrl_c(command, program, environment):
    """A second signal would make belfry stop at once."""
    program.write_text(SIGNALS)
    master, terminal = pty.openpty()
    in_terminal = ["sh", "-c", f'exec "$0" <{os.ttyname(terminal)}', command]
    lines = Lines(in_terminal, env=environment, start_new_session=True)
    lines.wait_for("ready")
    os.write(master, b"\x03")
    lines.wait_for("SIGINT")
    lines.process.send_signal(signal.SIGTERM)
    assert lines.process.wait(PATIENCE_SECONDS) == 7
    lines.reader.join(PATIENCE_SECONDS)
    assert lines.lines.empty(), list(lines.lines.queue)
    step("Ctrl-C in a terminal, which goes to both processes, reaches belfry once")


def deploy(release, environment):
    ministack = ROOT / ".venv/ministack/bin/ministack"
    with Emulator(str(ministack)) as emulator:
        environment = environment | CREDENTIALS | {"AWS_ENDPOINT_URL": emulator.endpoint}
        try:
            arguments = ["--stack", STACK, "MaxConnections=500"]
            said = run(["./deploy", *arguments], release, environment)
            assert f"Deployed {STACK}" in said and f"Test it: ./smoke {STACK}" in said, said
            step("./deploy deploys")
            said = run(["./smoke", STACK], release, environment)
            checks = re.findall(r"^ok ", said, re.MULTILINE)
            assert len(checks) >= 8 and "FAIL" not in said and "Installing" not in said, said
            step(f"./smoke: {len(checks)} checks passed")
            said = run(["./deploy", *arguments, "Architecture=arm64"], release, environment, fails=True)
            assert "use the release for arm64" in said, said
            step("an architecture that the functions are not built for is refused")
        except BaseException:
            print("The end of MiniStack's log:\n" + emulator.log.read_text()[-5000:], file=sys.stderr)
            raise


def main():
    releases = Path(sys.argv[1]).resolve()
    [archive] = releases.glob("*.tar.gz")
    packages = sorted((releases / "npm").iterdir())
    with contextlib.ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory()))
        check_packing(empty(folder, "packing"))
        check_refusals()
        shell = environment(folder)
        assert not any(shutil.which(name, path=shell["PATH"]) for name in ("cargo", "rustc", "make", "sam"))
        subprocess.run(["tar", "xzf", archive, "-C", folder], check=True)
        release = folder / archive.name.removesuffix(".tar.gz")
        # Installs the SAM CLI first, which takes longer than all the rest.
        helping = Lines(["./deploy", "--help"], cwd=release, env=shell, start_new_session=True)
        ending.callback(stop, helping)
        run_from_the_archive(release, folder, shell, ending)
        run_from_npm(packages, folder, shell, ending)
        assert helping.process.wait(COMMAND_SECONDS) == 0, list(helping.lines.queue)
        helping.wait_for("Installing the SAM CLI")
        helping.wait_for("usage: ./deploy")
        step("./deploy has installed the SAM CLI, and helps")
        deploy(release, shell)


if __name__ == "__main__":
    main()
