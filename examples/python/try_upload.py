"""Calls the handler once, as the HTTP API does after its authorizer has verified
the token: python try_upload.py USER FILE
"""

import base64
import sys
from pathlib import Path

from handler import handler

user, file = sys.argv[1], Path(sys.argv[2])
event = {
    "requestContext": {"authorizer": {"jwt": {"claims": {"sub": user, "token_use": "access"}}}},
    "queryStringParameters": {"file": file.name},
    "body": base64.b64encode(file.read_bytes()).decode(),
    "isBase64Encoded": True,
}
response = handler(event, None)
print(response["statusCode"], response["body"])
