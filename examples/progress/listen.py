"""Prints a job's progress until it is done: Server-Sent Events without a library.

    READER=http://127.0.0.1:3101 TOKEN=… python3 examples/progress/listen.py demo:job:7
"""

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

READER = os.environ["READER"]
TOKEN = os.environ["TOKEN"]


def events(channel, cursor):
    """The events of one stream, each as its id and its frame."""
    query = urllib.parse.urlencode({"channel": channel})
    request = urllib.request.Request(f"{READER}/events?{query}")
    request.add_header("Authorization", f"Bearer {TOKEN}")
    if cursor:
        request.add_header("Last-Event-ID", cursor)
    # The server sends a comment every 15 seconds, so silence means that the
    # stream is dead.
    with urllib.request.urlopen(request, timeout=40) as stream:
        fields = {}
        for line in stream:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                yield fields["id"], json.loads(fields["data"])
                fields = {}


def follow(channel):
    """The frames of a channel. A stream that ends or breaks is continued."""
    cursor = None
    while True:
        try:
            for cursor, frame in events(channel, cursor):
                yield frame
        except urllib.error.HTTPError as error:
            # 429 and 5xx pass; the token or the channel would be refused again.
            if error.code < 500 and error.code != 429:
                sys.exit(f"refused: {error.read().decode()}")
        except OSError as error:
            print(f"the stream broke: {error}", file=sys.stderr)
        time.sleep(1)


def main():
    for frame in follow(sys.argv[1]):
        data = frame["data"]
        if frame["type"] == "subscribed":
            [state] = data["channels"]
            if state.get("recovered") is False:
                print(f"messages were lost: {state['reason']}", file=sys.stderr)
        elif frame["type"] == "error":
            sys.exit(f"the session is over: {data['code']}")
        elif data.get("kind") == "job.progress":
            print(f"{data['data']['percent']}%", flush=True)
            if data["data"]["percent"] >= 100:
                return


if __name__ == "__main__":
    main()
