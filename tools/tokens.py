"""Signs users of a stack's own pool in, and writes their access tokens to a file:
what `make loadtest` takes as TOKENS. With --remove it removes the users.
"""

import argparse
import contextlib
import sys
from pathlib import Path

from belfry_stack import outputs, session, sign_in

# Every user of a load test is named like this, counted from nought.
NAME = "loadtest-{:05}"
MOST = 100_000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stack")
    parser.add_argument("file", type=Path)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--remove", action="store_true")
    given = parser.parse_args()
    if not given.stack:
        sys.exit("Name the stack: make tokens STACK=belfry-dev")
    aws = session()
    found = outputs(aws, given.stack)
    if "UserPoolClientId" not in found:
        sys.exit(f"{given.stack} has no pool of its own: write the tokens to {given.file} yourself, one a line.")
    cognito = aws.client("cognito-idp")
    # Also those of a test before, whose tokens are over.
    removed = 0
    with contextlib.suppress(cognito.exceptions.UserNotFoundException):
        while removed < MOST:
            cognito.admin_delete_user(UserPoolId=found["UserPoolId"], Username=NAME.format(removed))
            removed += 1
    given.file.unlink(missing_ok=True)
    if given.remove:
        print(f"{removed} users are removed, and {given.file}")
        return
    # Nobody else should read them.
    given.file.touch(mode=0o600)
    with given.file.open("w") as file:
        for number in range(given.users):
            print(sign_in(cognito, found, NAME.format(number)), file=file)
    print(f"{given.file} has {given.users} tokens, good for an hour; `make tokens REMOVE=1 …` removes them")


if __name__ == "__main__":
    main()
