"""Checks that the tests that a page of the documentation names exist.

A page names tests in tables whose last column is headed `tests`. A cell has
groups like "system `limits::a_test`, `keys::another`; core `a_test`": a suite,
and names in backticks. The page's table `| name | file |` says which files or
folders a suite has. A name is one of

- `module::test` in Rust or Python, where the module is the end of the file's
  path; or the test alone
- `file.test.ts > group > title` for node:test and Vitest, with titles as the
  source has them
- `module::*`, a module, a file or a Python class: at least one test is there

A test that is skipped does not count.
"""

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

SUFFIXES = {".rs", ".py", ".mjs", ".ts", ".tsx"}
INSTALLED = {"node_modules", "dist", "target"}

# Attributes and comments may stand between a test's attribute and its function.
RUST = re.compile(r"#\[(?:tokio::)?test\b[^\]]*\]((?:\s|//.*|#\[.*\])*)(?:pub )?(?:async )?fn (\w+)")
# A promise of a contract is generic over the adapter that it tests. The
# contract's own test calls it, and the compiler warns if none does.
PROMISE = re.compile(r"^(?:pub(?:\(\w+\))? )?async fn (\w+)<", re.MULTILINE)
PYTHON = re.compile(r"^ +def (test_\w+)|^class (\w+)\(unittest\.TestCase\)|^ +scenario\.(\w+)\(\)", re.MULTILINE)
# After a parenthesis, the title belongs to `it.each(…)`.
TITLE = re.compile(r"""(?:\b(?:test|it|describe)(?:\.(?!skip|todo)\w+)*|[)`])\(\s*(["'`])((?:\\.|(?!\1).)*)\1\s*,""")

ROW = re.compile(r"^\|(.*)\|$")
QUOTED = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)[^)]*\)")


def rust_tests(text):
    """
    >>> rust_tests("#[tokio::test]\\n// Why.\\nasync fn a() {}\\n#[test]\\n#[ignore]\\nfn b() {}\\nfn c() {}")
    {'a'}
    """
    return {name for between, name in RUST.findall(text) if "#[ignore" not in between}


def python_tests(text):
    """
    >>> sorted(python_tests("class A(unittest.TestCase):\\n    def test_b(self):\\n    def help(self):"))
    ['A', 'test_b']
    >>> python_tests("def main():\\n            scenario.deploy()")
    {'deploy'}
    """
    return {name for names in PYTHON.findall(text) for name in names if name}


def titles(text):
    """
    >>> sorted(titles("describe('a', () => { it.each([1])(\\"b, %s\\", run); test.skip('c', run); post('d', 1) })"))
    ['a', 'b, %s']
    """
    return {title for _, title in TITLE.findall(text)}


@cache
def tests_in(path):
    text = path.read_text()
    if path.suffix == ".rs":
        return rust_tests(text) | set(PROMISE.findall(text) if "testing" in path.parts else ())
    return python_tests(text) if path.suffix == ".py" else titles(text)


@cache
def files_below(path):
    files = [path] if path.is_file() else path.rglob("*")
    return [file for file in files if file.suffix in SUFFIXES and not INSTALLED & set(file.relative_to(ROOT).parts)]


def is_at(path, *ends):
    """Whether a path ends with these parts, with or without the suffix.

    >>> is_at(Path("tests/system/channels/frozen.rs"), "channels", "frozen")
    True
    >>> is_at(Path("tests/system/frozen.rs"), "channels", "frozen")
    False
    """
    return path.parts[-len(ends) :] == ends or path.with_suffix("").parts[-len(ends) :] == ends


def exists(name, files):
    """Whether one of the files has the test that a page names."""
    file, *parts = name.split(" > ")
    if parts:
        return any(is_at(path, *file.split("/")) and tests_in(path).issuperset(parts) for path in files)
    *modules, test = name.split("::")
    if test == "*":
        return any(is_at(path, *modules) and tests_in(path) for path in files)
    if any((not modules or is_at(path, *modules)) and test in tests_in(path) for path in files):
        return True
    return any(is_at(path, *modules, test) and tests_in(path) for path in files)


def cells(line):
    """The cells of a table's row, or none.

    >>> cells("| a | `b` |"), cells("a | b")
    (['a', '`b`'], [])
    """
    row = ROW.match(line.strip())
    return [cell.strip() for cell in row[1].split("|")] if row else []


def tables(text):
    """Header, first line and rows of each table.

    >>> list(tables("x\\n\\n| a | b |\\n| --- | --- |\\n| 1 | 2 |\\n| 3 | 4 |\\n\\ny"))
    [(['a', 'b'], 5, [['1', '2'], ['3', '4']])]
    """
    header, first, rows = None, 0, []
    lines = [*text.splitlines(), ""]
    for number, line in enumerate(lines, start=1):
        row = cells(line)
        if not row:
            if header and rows:
                yield header, first, rows
            header, rows = None, []
        elif header is None:
            header, first = row, number + 2
        elif number >= first:
            rows.append(row)


def suites(page, text):
    """The files of each suite that a page defines."""
    found = {}
    for header, _, rows in tables(text):
        if header == ["name", "file"]:
            for name, links in rows:
                paths = [(page.parent / address).resolve() for _, address in LINK.findall(links)]
                found[name] = [file for path in paths for file in files_below(path)]
    return found


def named(cell, known):
    """Suites and names of each group of a cell.

    >>> named("core and aws `a`, `b::c`; see [x](y.rs); fuzz `d` and others", {"core", "aws", "fuzz"})
    [(['core', 'aws'], ['a', 'b::c']), (['fuzz'], ['d'])]
    """
    groups = []
    # A title may have a semicolon.
    for group in re.split(r";(?=(?:[^`]*`[^`]*`)*[^`]*$)", LINK.sub("", cell)):
        names = QUOTED.findall(group)
        if names:
            words = re.findall(r"\w+", group.split("`", 1)[0])
            groups.append(([word for word in words if word in known], names))
    return groups


def missing_tests(page, text):
    """Line and complaint for each test that a page names and that does not exist."""
    known = suites(page, text)
    for header, first, rows in tables(text):
        if header[-1] != "tests":
            continue
        for line, row in enumerate(rows, start=first):
            groups = named(row[-1], known)
            if not groups and not row[-1].startswith("none"):
                yield line, "no test: name one, or begin with none and say why"
            for where, names in groups:
                if not where:
                    yield line, f"{names[0]}: no suite before it that the page defines"
                for suite in where:
                    missing = (name for name in names if not exists(name, known[suite]))
                    yield from ((line, f"{suite} {name}: no such test") for name in missing)
