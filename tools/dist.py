"""Packs what `make dist` has built, for machines without Rust.

Writes an archive to deploy from and to run, two packages for npm, and their
checksums. The same files always make the same archives, byte for byte.
"""

import argparse
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import elf

ROOT = Path(__file__).resolve().parent.parent
PACKAGING = ROOT / "packaging"

# What the archive takes from the repository as it is.
TOOLS = ["belfry_stack", "channels", "commands", "deploy", "elf", "origins", "parameters", "smoke"]
SOURCES = [
    "CHANGELOG.md",
    "LICENSE",
    "SECURITY.md",
    "channels.json",
    "docs",
    "events",
    "infra",
    "samconfig.toml",
    "schemas",
    *(f"tools/{name}.py" for name in TOOLS),
]

# Packages of tools/sam that only `sam build` needs, by far the largest.
ONLY_TO_BUILD = {"cargo-lambda", "ziglang"}

# npm's names of the architectures that packages exist for.
CPUS = {"x86_64": "x64", "arm64": "arm64"}

# The time of every file, 2000-01-01. SAM makes zips, which know no time before 1980.
MODIFIED = 946_684_800

BUILT_HERE = re.compile(
    r"^  (?P<name>\w+):\n"
    r"(?P<attributes>(?:    \w.*\n)+)"
    r"    Metadata:\n      BuildMethod: rust-cargolambda\n      BuildProperties:\n        Binary: \w+\n"
    r"    Properties:\n",
    re.MULTILINE,
)
GLOBAL_CODE = re.compile(r"^(?:    #.*\n)*    CodeUri: crates/functions\n", re.MULTILINE)


def released(template):
    """The template with the folder of each function's code instead of the way to
    build it, and the names of the functions."""
    names = BUILT_HERE.findall(template)
    template = BUILT_HERE.sub(
        r"  \g<name>:\n\g<attributes>    Properties:\n      CodeUri: functions/\g<name>\n", template
    )
    template, found = GLOBAL_CODE.subn("", template)
    if found != 1 or "BuildMethod" in template:
        sys.exit(f"template.yaml says in another way than {__file__} knows how its functions are built.")
    return template, {name for name, _ in names}


def requirements():
    """What deploying and the smoke test need: the SAM CLI, and websockets beside it."""

    def pins(tool):
        lines = (ROOT / f"tools/{tool}/requirements.txt").read_text().splitlines()
        return {line.split("==")[0]: line for line in lines if not line.startswith("#")}

    sam = [line for name, line in pins("sam").items() if name not in ONLY_TO_BUILD]
    lines = ["# The SAM CLI with everything it needs, and websockets, pinned.", *sam, pins("aws")["websockets"]]
    return "\n".join(lines) + "\n"


def version():
    return tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]


def runnable(built, belfry):
    """The files that `belfry run` needs."""
    template, names = released((ROOT / "template.yaml").read_text())
    functions = {path.parent.name: path for path in built.glob("*/bootstrap")}
    if functions.keys() != names:
        differ = ", ".join(sorted(functions.keys() ^ names))
        sys.exit(f"{built} has other functions than template.yaml: {differ}. Run `make build`.")
    architecture = elf.architecture(belfry)
    for name, path in functions.items():
        if elf.architecture(path) != architecture:
            sys.exit(f"{name} is built for {elf.architecture(path)}, and belfry for {architecture}.")
    code = {f"functions/{name}/bootstrap": path for name, path in functions.items()}
    return code | {"belfry": belfry, "template.yaml": template} | tracked("LICENSE", "channels.json", "events")


def tracked(*paths):
    """Files of the repository by their paths. No other file may slip in."""
    command = ["git", "ls-files", "-z", "--error-unmatch", *paths]
    listed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return {name: ROOT / name for name in filter(None, listed.stdout.split("\0"))}


def archive(files):
    """The files of the archive to deploy from."""
    own = {str(path.relative_to(PACKAGING / "archive")): path for path in tracked("packaging/archive").values()}
    return files | tracked(*SOURCES) | own | {"requirements.txt": requirements()}


def npm_package(name, files, **fields):
    """The files of an npm package."""
    about = {
        "name": name,
        "version": version(),
        "description": "Belfry's local stack: API Gateway for WebSockets, Lambda and DynamoDB in one process",
        "license": "Apache-2.0",
        **fields,
    }
    return files | {"package.json": json.dumps(about, indent=2) + "\n"}


def command_package():
    """The npm package with the command, which needs one of the others."""
    files = {name: PACKAGING / "npm" / name for name in ("README.md", "belfry.mjs")}
    return npm_package(
        "belfry",
        files | {"LICENSE": ROOT / "LICENSE"},
        type="module",
        engines={"node": ">=20"},
        bin={"belfry": "belfry.mjs"},
        optionalDependencies={f"@belfry/linux-{cpu}": version() for cpu in sorted(CPUS.values())},
    )


def write(path, folder, files, level=9):
    """Writes a compressed tar archive of files, contents or paths by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", level, raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for name, content in sorted(files.items()):
            content = content.read_bytes() if isinstance(content, Path) else content.encode()
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size, info.mtime = len(content), MODIFIED
            info.mode = 0o755 if content.startswith((b"\x7fELF", b"#!")) else 0o644
            tar.addfile(info, io.BytesIO(content))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--built", type=Path, required=True, help="the output of `sam build`")
    parser.add_argument("--belfry", type=Path, required=True, help="the program belfry")
    parser.add_argument("--debug", action="store_true", help="for tests: pack a dynamic belfry, compress little")
    parser.add_argument("--to", type=Path, required=True, help="the folder to write to")
    given = parser.parse_args()
    if not given.debug and not elf.is_static(given.belfry):
        sys.exit(f"{given.belfry} is not a static program: it would need the libraries of this machine.")
    files = runnable(given.built, given.belfry)
    architecture = elf.architecture(given.belfry)
    cpu = CPUS[architecture]
    name = f"belfry-{version()}-linux-{architecture}"
    platform = npm_package(f"@belfry/linux-{cpu}", files, os=["linux"], cpu=[cpu])
    archives = {
        f"{name}.tar.gz": (name, archive(files)),
        f"npm/belfry-{version()}.tgz": ("package", command_package()),
        f"npm/belfry-linux-{cpu}-{version()}.tgz": ("package", platform),
    }
    sums = ""
    for name, (folder, content) in archives.items():
        path = given.to / name
        write(path, folder, content, 1 if given.debug else 9)
        print(f"{path}  {path.stat().st_size / 1_000:,.0f} kB")
        sums += f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n"
    (given.to / f"SHA256SUMS-{architecture}").write_text(sums)


if __name__ == "__main__":
    main()
