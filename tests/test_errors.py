"""The drawings of the trees of errors, beside the classes: in the core, and in each client library."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
Tree = list[tuple[str, str | None]]  # (name, parent), in order
PYTHON = re.compile(r"^class (\w+)\((\w+)", re.MULTILINE)
GO = re.compile(r"^\t(Err\w+) += newKind\(\"\w+\", (\w+)\)", re.MULTILINE)
JS = re.compile(r"^export class (\w+) extends (\w+) ", re.MULTILINE)


def drawn(text: str) -> Tree:
    """The drawing in a file's text: each level is four characters wide, and the root stands above the first branch."""
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if "├── " in line)
    left = re.split("├", lines[first])[0]
    above = [lines[first - 1].removeprefix(left).strip()]
    tree: Tree = [(above[0], None)]
    for line in lines[first:]:
        branch = re.fullmatch(r"((?:│   |    )*)[├└]── (\w+)(?: .*)?", line.removeprefix(left))
        if branch is None:
            break
        del above[1 + len(branch[1]) // 4 :]
        tree.append((branch[2], above[-1]))
        above.append(branch[2])
    return tree


def declared(text: str, pattern: re.Pattern[str]) -> Tree:
    """The classes in a file's text; what the first of them stands below is not of the tree."""
    found = pattern.findall(text)
    return [(name, parent if number else None) for number, (name, parent) in enumerate(found)]


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("sidecar/core/errors.py", PYTHON),
        ("clients/python/src/sidecar_client/errors.py", PYTHON),
        ("clients/go/errors.go", GO),
        ("clients/js/src/errors.ts", JS),
    ],
)
def test_the_drawing_is_of_the_classes(file: str, pattern: re.Pattern[str]) -> None:
    text = (ROOT / file).read_text()
    assert len(declared(text, pattern)) > 30
    assert drawn(text) == declared(text, pattern)
