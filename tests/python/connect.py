"""Opens a socket with websocket-client and prints the result.

Arguments: the URL, and JSON {headers, origin, send}. Without an origin,
websocket-client sends the server's own.
"""

import json
import sys

import websocket

url, options = sys.argv[1], json.loads(sys.argv[2])
try:
    socket = websocket.create_connection(
        url, timeout=30, header=options.get("headers", {}), origin=options.get("origin")
    )
except websocket.WebSocketBadStatusException as refusal:
    print(json.dumps({"status": refusal.status_code}))
else:
    socket.send(options["send"])
    print(json.dumps({"message": json.loads(socket.recv())}))
    socket.close()
