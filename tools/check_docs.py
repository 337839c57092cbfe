"""Checks that the documentation points to things that exist.

In every tracked Markdown file, a relative link must lead to a file or folder
and, if it has an #anchor, to a heading. In CONTRIBUTING.md, text in backticks
that looks like a path of the repository must be one. The tests that a page
names in a column headed `tests` must exist (named_tests.py). Prints file:line
of each problem and exits with 1 if there is any.
"""

import doctest
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import named_tests

ROOT = Path(__file__).resolve().parent.parent

FENCE = re.compile(r"^ *(```|~~~).*?^ *\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"\]\(\s*<?([^()\s<>]+)")
HEADING = re.compile(r"^#{1,6} +(.+?)[ #]*$", re.MULTILINE)
PATH = re.compile(r"`([\w.-]+(?:/[\w.-]+)+/?|[\w-]+\.(?:json|lock|md|py|toml|yaml))`")


def blank(pattern, text):
    """Removes what matches and keeps the line numbers.

    >>> blank(CODE, "a `[b](c)` d")
    'a  d'
    >>> blank(FENCE, "a\\n```\\n# b\\n```\\nc")
    'a\\n\\n\\n\\nc'
    """
    return pattern.sub(lambda match: "\n" * match[0].count("\n"), text)


def anchors(text):
    """The anchors that GitHub gives to the headings of a page.

    >>> anchors("# The `a-b` & [c_d](e)\\n## What's new?\\n## What's new?")
    ['the-a-b--c_d', 'whats-new', 'whats-new-1']
    >>> anchors("```\\n# a comment\\n```\\n")
    []
    """
    slugs = []
    for heading in HEADING.findall(blank(FENCE, text)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slugs.append(re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-"))
    before = [slugs[:index].count(slug) for index, slug in enumerate(slugs)]
    return [f"{slug}-{count}" if count else slug for slug, count in zip(slugs, before)]


def broken_links(page, text):
    """Offset and complaint for each link of a page that leads nowhere."""
    prose = blank(CODE, blank(FENCE, text))
    for link in LINK.finditer(prose):
        address, _, anchor = link[1].partition("#")
        if re.match(r"[a-z][a-z0-9+.-]*:", address, re.IGNORECASE):
            continue
        target = (page.parent / unquote(address)).resolve() if address else page
        line = prose.count("\n", 0, link.start(1)) + 1
        if not target.exists():
            yield line, f"{link[1]}: no such file"
        elif anchor and target.suffix == ".md" and unquote(anchor) not in anchors(target.read_text()):
            yield line, f"{link[1]}: no such heading"


def missing_paths(text):
    """Line and complaint for each path in backticks that does not exist."""
    for line, content in enumerate(text.splitlines(), start=1):
        for path in PATH.findall(content):
            if not (ROOT / path).exists():
                yield line, f"{path}: no such path"


def main():
    listed = subprocess.run(["git", "ls-files", "-z", "*.md"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    problems = []
    for name in filter(None, listed.stdout.split("\0")):
        page = ROOT / name
        if not page.exists():  # Moved or deleted, and not committed yet.
            continue
        text = page.read_text()
        found = [*broken_links(page, text), *named_tests.missing_tests(page, text)]
        found += missing_paths(text) if name == "CONTRIBUTING.md" else []
        problems += [f"{name}:{line}: {problem}" for line, problem in sorted(found)]
    print(*problems, sep="\n", end="\n" if problems else "")
    return bool(problems)


if __name__ == "__main__":
    failed = sum(doctest.testmod(module).failed for module in (None, named_tests))
    sys.exit(failed > 0 or main())
