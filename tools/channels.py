"""Checks channels.json and prints it minified, as the parameter ChannelRules.

The functions check it again when they start, with the same rules: both are held
to schemas/cases/channels.json. docs/CHANNELS.md describes the file.
"""

import argparse
import json
import math
import re
import sys
from pathlib import Path

MAX_BYTES = 3072
MAX_RULES = 100
MAX_GROUPS = 20
MAX_AUTO_SUBSCRIBE = 5
MAX_DEPTH = 32
SECONDS = range(60, 30 * 24 * 3600 + 1)

ACTIONS = ["subscribe", "publish", "presence", "lock"]
SEGMENT = re.compile(r"\*|\{[!-z|~]{1,64}\}|[A-Za-z0-9_.=,;+~@-]+")
GROUP = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,128}")


class InvalidRules(ValueError):
    """The rules are not valid. The message names the rule and the field."""


def minified(text):
    """The shortest text with the same meaning.

    >>> minified('{"$schema": "x", "version": "1.2", "channels": [], "all": null}')
    '{"version":"1.0","channels":[]}'
    """
    return compact(checked(text))


def problem(text):
    """What is wrong with the rules, or None."""
    try:
        checked(text)
    except InvalidRules as error:
        return str(error)
    return None


def compact(rules):
    return json.dumps(rules, ensure_ascii=False, separators=(",", ":"))


def checked(text):
    """The rules without what has no meaning."""
    file = fields(parse(text), "the rules", "", ["version"], ["$schema", "user", "all", "channels"])
    expect(isinstance(file.pop("$schema", ""), str), "$schema must be a string")
    version = file["version"]
    well_formed = isinstance(version, str) and re.fullmatch(r"(0|[1-9]\d{0,4})\.(0|[1-9]\d{0,4})", version, re.ASCII)
    expect(well_formed, 'version must be a string of the form MAJOR.MINOR, like "1.0"')
    expect(version.startswith("1."), "version is not supported; this server supports 1.x")
    file["version"] = "1.0"
    for kept in ("user", "all"):
        if kept in file:
            file[kept] = fields(file[kept], kept, kept, ["history"], [])
            file[kept]["history"] = history(file[kept]["history"], f"{kept}.history")
    if "channels" in file:
        channels = file["channels"]
        expect(isinstance(channels, list), "channels must be a list")
        expect(len(channels) <= MAX_RULES, f"channels must be a list of 0 to {MAX_RULES} rules")
        file["channels"] = [rule(value, f"channels[{index}]") for index, value in enumerate(channels)]
        check_together(file["channels"])
    size = len(compact(file).encode())
    expect(
        size <= MAX_BYTES,
        f"the rules have {size} bytes when minified, and at most {MAX_BYTES} are allowed: join rules or shorten them",
    )
    return file


def expect(condition, message):
    if not condition:
        raise InvalidRules(message)


def parse(text):
    """Reads strict JSON: no duplicate keys, no deep nesting."""

    def distinct(pairs):
        found = {}
        for name, value in pairs:
            if name in found:
                raise ValueError(f"duplicate key `{name[:64]}`")
            found[name] = value
        return found

    def finite(digits):
        number = float(digits)
        if math.isinf(number):
            raise ValueError("number out of range")
        return number

    def constant(name):
        raise ValueError(f"{name} is no JSON")

    try:
        value = json.loads(
            text.removeprefix("\ufeff"), object_pairs_hook=distinct, parse_float=finite, parse_constant=constant
        )
        if depth(value) > MAX_DEPTH:
            raise RecursionError
        # A lone surrogate is no Unicode.
        compact(value).encode()
    except RecursionError:
        raise InvalidRules(f"not valid JSON: nested more than {MAX_DEPTH} levels deep") from None
    except ValueError as error:
        raise InvalidRules(f"not valid JSON: {error}") from None
    return value


def depth(value):
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def fields(value, called, path, required, optional):
    """The members of an object in a fixed order, without those that are null."""
    expect(isinstance(value, dict), f"{called} must be a JSON object")
    at = f"{path}: " if path else ""
    for name in value:
        known = ", ".join(f"`{known}`" for known in required + optional)
        expect(name in required + optional, f"{at}unknown field `{name[:64]}`, expected one of {known}")
    for name in required:
        expect(name in value, f"{at}missing field `{name}`")
    return {name: value[name] for name in required + optional if name in required or value.get(name) is not None}


def history(value, path):
    kept = fields(value, path, path, ["seconds"], [])
    whole = type(kept["seconds"]) is int and kept["seconds"] in SECONDS
    expect(whole, f"{path}.seconds must be an integer from {SECONDS[0]} to {SECONDS[-1]}")
    return kept


def rule(value, path):
    known = fields(value, path, path, ["match", "allow"], ["groups", "autoSubscribe", "history"])
    match, allow, groups = known["match"], known["allow"], known.get("groups", ["any"])
    expect(isinstance(match, str), f"{path}.match must be a string")
    if not is_pattern(match):
        refuse(
            path, match, "match",
            'must be segments joined by ":", each a name, "*" for any one, or "{claim}" for a claim of the token; '
            'the last can be "**" for all that follow; like room:*, user:{sub} or demo:**',
        )
    actions = isinstance(allow, list) and all(action in ACTIONS for action in allow)
    expect(
        allow == "ask" or (actions and 0 < len(allow) == len(set(allow))),
        f'{path}.allow must be "ask" or a list of one or more of {", ".join(ACTIONS)}, each once',
    )
    expect(
        isinstance(groups, list)
        and 1 <= len(groups) <= MAX_GROUPS
        and all(isinstance(group, str) and GROUP.fullmatch(group) for group in groups),
        f"{path}.groups must be a list of 1 to {MAX_GROUPS} groups, each a string of 1 to 128 characters "
        "without control characters",
    )
    expect(isinstance(known.get("autoSubscribe", False), bool), f"{path}.autoSubscribe must be true or false")
    if "history" in known:
        known["history"] = history(known["history"], f"{path}.history")
    return known


def is_pattern(text):
    """Whether a text can be the `match` of a rule.

    >>> [is_pattern(text) for text in ("room:*", "{custom:tenant}:**", "**", "a@b")]
    [True, True, True, True]
    >>> [is_pattern(text) for text in ("@me", "a::b", "**:a", "a*", "{}", "{a}b", "a\\n", "")]
    [False, False, False, False, False, False, False, False]
    """
    if text == "**":
        return True
    at, text = 0, text.removesuffix(":**")
    if text.startswith("@"):
        return False
    while segment := SEGMENT.match(text, at):
        if segment.end() == len(text):
            return True
        if text[segment.end()] != ":":
            return False
        at = segment.end() + 1
    return False


def refuse(path, match, field, what):
    excerpt = match.encode()[:64].decode(errors="ignore")
    ellipsis = "…" if excerpt != match else ""
    excerpt = re.sub(r"[\x00-\x1f\x7f-\x9f]", "?", excerpt)
    raise InvalidRules(f"{path} ({excerpt}{ellipsis}), {field}: {what}")


def check_together(rules):
    """Checks what the rules say together."""
    auto_subscribe = 0
    for index, one in enumerate(rules):

        def wrong(field, what, index=index, match=one["match"]):
            refuse(f"channels[{index}]", match, field, what)

        if one.get("autoSubscribe"):
            auto_subscribe += 1
            if "subscribe" not in one["allow"]:
                wrong("autoSubscribe", 'needs "subscribe" in allow')
            if "*" in re.sub(r"\{.*?\}", "", one["match"]):
                wrong("autoSubscribe", "needs a match without * and **")
            if auto_subscribe > MAX_AUTO_SUBSCRIBE:
                wrong("autoSubscribe", f"at most {MAX_AUTO_SUBSCRIBE} rules can have it")
        same = [(at, other) for at, other in enumerate(rules[:index]) if other["match"] == one["match"]]
        for at, other in same:
            if "groups" not in other:
                wrong("match", f"never decides: channels[{at}] has the same match")
        # The first rule that matches a channel sets its history.
        if same and "history" in one and one["history"] != same[0][1].get("history"):
            wrong("history", f"never counts: channels[{same[0][0]}] has the same match")


def read(path):
    """The minified rules of a file. Exits with a message if there are none."""
    try:
        return minified(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        sys.exit(f"Cannot read {path}: {error.strerror}. Name another file with CHANNELS=FILE.")
    except UnicodeDecodeError:
        sys.exit(f"{path} is not UTF-8.")
    except InvalidRules as error:
        sys.exit(f"{path}: {error}\ndocs/CHANNELS.md describes the rules.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", default="channels.json")
    print(read(parser.parse_args().file))


if __name__ == "__main__":
    main()
