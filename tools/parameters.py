"""Checks values for parameters of template.yaml.

SAM silently drops a parameter that the template does not have, and
CloudFormation refuses an invalid value only after minutes.
"""

import argparse
import difflib
import re
import sys
from pathlib import Path

import yaml

import channels
import origins

ROOT = Path(__file__).resolve().parent.parent


class Loader(yaml.SafeLoader):
    """Converts CloudFormation's short forms to their long forms."""


def long_form(loader, tag, node):
    name = tag if tag in ("Ref", "Condition") else f"Fn::{tag}"
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if tag == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {name: value}


Loader.add_multi_constructor("!", long_form)


def declared():
    """The declaration of every parameter of template.yaml."""
    return yaml.load((ROOT / "template.yaml").read_text(), Loader)["Parameters"]


def parse(parameters):
    """Values by name, from words of the form NAME=VALUE. The last one wins, so
    that a command line overrides samconfig.toml."""
    for parameter in parameters:
        if "=" not in parameter:
            sys.exit(f"{parameter}: write a parameter as NAME=VALUE.")
    return dict(parameter.split("=", 1) for parameter in parameters)


def override(name, value):
    """A word for SAM's --parameter-overrides: SAM rejects an unquoted empty value,
    splits at spaces, and ends a value at a quotation mark.

    >>> print(override("AllowedOrigins", ""))
    AllowedOrigins=""
    >>> print(override("ChannelRules", '{"version":"1.0"}'))
    ChannelRules="{\\"version\\":\\"1.0\\"}"
    """
    if name == "ChannelRules":
        # SAM does not unescape a backslash, so none may precede a quotation mark
        # or a space.
        value = re.sub(r'\\(["\\])', lambda escape: f"\\u{ord(escape[1]):04x}", value)
    escaped = value.replace('"', '\\"')
    return f'{name}="{escaped}"'


def problem_of(name, value, parameters):
    """A sentence about what is wrong with a value, or None."""
    if name not in parameters:
        by_lower = {known.lower(): known for known in parameters}
        near = difflib.get_close_matches(name.lower(), by_lower, cutoff=0.7)
        nearest = [by_lower[lower] for lower in near]
        hint = f"did you mean {' or '.join(nearest)}?" if nearest else "docs/OPERATIONS.md lists them."
        return f"template.yaml has no parameter {name}; {hint}"
    # This names the entry, and what to write instead.
    if name == "AllowedOrigins" and (problem := origins.problem(value)):
        return f"AllowedOrigins: {problem}"
    if name == "ChannelRules" and (problem := channels.problem(value)):
        return f"ChannelRules: {problem}"
    parameter = parameters[name]
    if parameter["Type"] == "Number":
        least, most = parameter.get("MinValue"), parameter.get("MaxValue")
        # CloudFormation accepts fractions; no function does.
        whole = re.fullmatch(r"[0-9]{1,18}", value)
        if not whole or (least is not None and int(value) < least) or (most is not None and int(value) > most):
            bounds = f" from {least} to {most}" if most is not None else ""
            return f"{name} must be a whole number{bounds}."
    allowed = [str(value) for value in parameter.get("AllowedValues", [value])]
    if value not in allowed:
        return f"{name} must be one of {', '.join(allowed)}."
    pattern = parameter.get("AllowedPattern")
    if pattern and not re.fullmatch(pattern, value):
        constraint = parameter.get("ConstraintDescription", f"must match {pattern}")
        return f"{name} {' '.join(constraint.split())}"
    return None


def check(values):
    """Exits with a sentence about each invalid value."""
    parameters = declared()
    problems = [problem_of(name, value, parameters) for name, value in values.items()]
    if any(problems):
        sys.exit("\n".join(problem for problem in problems if problem))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parameters", nargs="*", metavar="NAME=VALUE")
    check(parse(parser.parse_args().parameters))


if __name__ == "__main__":
    main()
