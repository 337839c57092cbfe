"""Checks the dependencies of the workspace's crates.

Only belfry-aws may depend on the AWS SDK; test packages, what benchmarks compare
with, and belfry-ops may, too, to act as clients of it. The local stack stands
apart from Belfry's other crates, but for the file that checks channel rules and
the command line, which has `belfry ops`. No crate may have a dependency that its
code never names.
Prints each problem and exits with 1 if there is any.
"""

import doctest
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Packages that are, or stand in for, users of the SDK.
SDK_USERS = {"belfry-aws", "belfry-ops", "belfry-tests", "belfry-loadtest", "bare-loop"}

# The only files of the local stack that may name others of Belfry's crates. Two
# evaluators of channel rules could differ; `belfry ops` is a command of the same
# program, which speaks to people in the same way, and knows the stack as any client
# does.
LOCAL_STACK = ROOT / "crates/local/src"
USERS = {"channels.rs": {"core", "protocol"}, "cli.rs": {"ops"}, "main.rs": {"ops"}, "terminal.rs": {"ops"}}

# Packages whose library has another name.
LIBRARIES = {"dynoxide-rs": "dynoxide"}


def dependencies(manifest):
    """The names of a manifest's dependencies, with whether only tests use them."""
    for table in ("dependencies", "dev-dependencies"):
        for name in manifest.get(table, {}):
            yield name, table


def is_named(name, text):
    """Whether code names a crate.

    >>> is_named("aws-config", "use aws_config::Region;")
    True
    >>> is_named("url", "let curl = 1; // url")
    False
    """
    crate = re.escape(LIBRARIES.get(name, name.replace("-", "_")))
    return re.search(rf"\b{crate}(::|!|;)|#\[{crate}", text) is not None


def code_of(folder, members):
    """The files of a package, without those of a package in one of its folders."""
    inside = [member for member in members if folder in member.parents]
    for path in folder.rglob("*.rs"):
        if "target" not in path.parts and not any(member in path.parents for member in inside):
            yield path


def problems(folder, members):
    manifest = tomllib.loads((folder / "Cargo.toml").read_text())
    package = manifest["package"]["name"]
    code = "\n".join(path.read_text() for path in code_of(folder, members))
    for name, table in dependencies(manifest):
        if name.startswith("aws-sdk-") and package not in SDK_USERS and table == "dependencies":
            yield f"{package}: {name}: only belfry-aws may depend on the AWS SDK"
        if not is_named(name, code):
            yield f"{package}: {name} in {table} is not used"


def crates_in_the_local_stack(sources):
    """The files, by path and text, that name a crate of Belfry's and may not.

    >>> list(crates_in_the_local_stack({LOCAL_STACK / "channels.rs": "use belfry_core::x;"}))
    []
    >>> list(crates_in_the_local_stack({LOCAL_STACK / "run.rs": "use belfry_protocol as p;"}))
    ['crates/local/src/run.rs: may not use belfry_protocol']
    >>> list(crates_in_the_local_stack({LOCAL_STACK / "channels.rs": "use belfry_ops::x;"}))
    ['crates/local/src/channels.rs: may not use belfry_ops']
    """
    for path, text in sources.items():
        allowed = USERS.get(str(path.relative_to(LOCAL_STACK)), set())
        used = set(re.findall(r"\bbelfry_(aws|core|functions|ops|protocol)\b", text))
        for crate in sorted(used - allowed):
            yield f"{path.relative_to(ROOT)}: may not use belfry_{crate}"


def main():
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]
    members = [ROOT / member for member in workspace["members"]]
    found = [problem for member in members for problem in problems(member, members)]
    found += crates_in_the_local_stack({path: path.read_text() for path in LOCAL_STACK.rglob("*.rs")})
    used = {
        name
        for member in members
        for name, _ in dependencies(tomllib.loads((member / "Cargo.toml").read_text()))
    }
    found += [f"workspace: {name} is not used" for name in workspace["dependencies"] if name not in used]
    print("\n".join(found) or "Every dependency is used, and only where it may be.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(doctest.testmod().failed > 0 or main())
