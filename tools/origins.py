"""Checks the parameter AllowedOrigins before a deploy. The function that reads it
would fail at the first handshake."""

import ipaddress
import re
import socket

AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s\[\]/?#@*:\\%]+)(?::([1-9][0-9]{0,4}))?")
LABEL = re.compile(r"[a-z0-9_-]{1,63}", re.IGNORECASE)


def problem(value):
    """What is wrong with the list, or None.

    >>> problem("https://app.example.com, http://localhost:5173")
    >>> problem("https://app.example.com, localhost:5173")
    'no browser sends the origin "localhost:5173": write http://localhost:5173'
    """
    for entry in filter(None, map(str.strip, value.split(","))):
        if not is_sent(entry):
            return f'no browser sends the origin "{entry}": {advice(entry)}'
    return None


def is_sent(entry):
    scheme, separator, rest = entry.partition("://")
    # A wildcard stands for any label, such as `a`.
    page = "a." + rest[2:] if rest.startswith("*.") else rest
    found = AUTHORITY.fullmatch(page)
    return (
        bool(separator and found)
        and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme) is not None
        and scheme.lower() not in ("ws", "wss", "file")
        and is_host(found[1])
        and int(found[2] or 1) <= 65535
    )


def is_host(host):
    try:
        if host.startswith("["):
            ipaddress.IPv6Address(host[1:-1])
            return True
        if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", host.rpartition(".")[2], re.IGNORECASE):
            socket.inet_aton(host)
            return True
        labels = [label.encode("idna").decode() for label in host.lower().split(".")]
        for label in labels:
            label.encode().decode("idna")
    except (OSError, ValueError):
        return False
    return all(map(LABEL.fullmatch, labels))


def advice(entry):
    """What to write instead."""
    scheme, separator, rest = entry.partition("://")
    if not separator:
        scheme, rest = "", entry
    authority = re.split("[/?#]", rest)[0].rpartition("@")[2]
    on_loopback = re.fullmatch(r"(localhost|127\.0\.0\.1|\[::1\])(:.*)?", authority)
    if not separator:
        scheme = "http" if on_loopback else "https"
    repaired = f"{ {'wss': 'https', 'ws': 'http'}.get(scheme, scheme) }://{authority}"
    if authority != "null" and is_sent(repaired):
        return f"write {repaired}"
    if "*" in entry:
        return "a wildcard stands for one label before a host, as in https://*.example.com"
    if separator and ":" in authority and "[" not in authority:
        return "the port must be a number from 1 to 65535"
    return "write the origin of a page, like https://app.example.com"
