"""Gets events from the Runtime API and answers them like Lambda's Python runtime:
one event at a time, over one persistent connection.
"""

import http.client
import json
import os
from types import SimpleNamespace


def run(handler):
    host, _, path = os.environ["AWS_LAMBDA_RUNTIME_API"].partition("/")
    base = f"{'/' if path else ''}{path}/2018-06-01/runtime/invocation"
    connection = http.client.HTTPConnection(host)
    while True:
        headers, body = call(connection, "GET", f"{base}/next")
        request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        # The SDK sends it with its calls.
        os.environ["_X_AMZN_TRACE_ID"] = headers.get("Lambda-Runtime-Trace-Id", "")
        context = SimpleNamespace(
            aws_request_id=request_id,
            deadline=int(headers.get("Lambda-Runtime-Deadline-Ms", 0)),
        )
        try:
            outcome, result = "response", handler(json.loads(body), context)
        except Exception as error:
            outcome, result = "error", {"errorType": type(error).__name__, "errorMessage": str(error)}
        call(connection, "POST", f"{base}/{request_id}/{outcome}", json.dumps(result))


def call(connection, method, path, payload=None):
    headers = {} if payload is None else {"Content-Type": "application/json"}
    connection.request(method, path, payload, headers)
    response = connection.getresponse()
    body = response.read()
    if response.status >= 300:
        raise RuntimeError(f"{method} {path}: {response.status} {body!r}")
    return response.headers, body
