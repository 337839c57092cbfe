"""Creates users in a stack's own pool, signs them in and writes their access tokens
to a file, for TOKENS of `make loadtest`. With --remove it removes the users.
"""

import argparse
import contextlib
import sys
from pathlib import Path

from belfry_stack import outputs, session, sign_in

# Names of the load test's users, numbered from 0.
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
        sys.exit(f"{given.stack} has no user pool of its own. Write the tokens to {given.file} yourself, one per line.")
    cognito = aws.client("cognito-idp")
    # Users of an earlier test too: their tokens have expired.
    removed = 0
    with contextlib.suppress(cognito.exceptions.UserNotFoundException):
        while removed < MOST:
            cognito.admin_delete_user(UserPoolId=found["UserPoolId"], Username=NAME.format(removed))
            removed += 1
    given.file.unlink(missing_ok=True)
    if given.remove:
        print(f"Removed {removed} users and {given.file}")
        return
    # Tokens are secrets: only this user may read the file.
    given.file.touch(mode=0o600)
    with given.file.open("w") as file:
        for number in range(given.users):
            print(sign_in(cognito, found, NAME.format(number)), file=file)
    print(f"Wrote {given.users} tokens to {given.file}, valid for an hour. `make tokens REMOVE=1 …` removes the users.")


if __name__ == "__main__":
    main()
