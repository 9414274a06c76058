"""What links where in Markdown files: `links(text)`, `anchors(text)` as GitHub makes them, `faults(root)` for all."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(r"^ *(```|~~~)")
_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
_LINK = re.compile(r"\]\(<?([^()<>\s]+)>?(?: \"[^\"]*\")?\)")
_SHOWN_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_HEADING = re.compile(r"^#{1,6} +(.*?) *#*$")
_NAMED = re.compile(r"<a (?:id|name)=\"([^\"]+)\"")


class Link(NamedTuple):
    """The target of a link as it is written, and where: the line (from 1) and the columns of the target (from 0)."""

    target: str
    line: int
    start: int
    end: int


def _prose(text: str) -> Iterator[tuple[int, str]]:
    """The lines outside of fenced blocks, with their numbers."""
    fence = None
    for number, line in enumerate(text.splitlines(), 1):
        if found := _FENCE.match(line):
            if fence is None:
                fence = found[1]
            elif fence == found[1]:
                fence = None
        elif fence is None:
            yield number, line


def links(text: str) -> list[Link]:
    """All inline links and images, outside of code."""
    found = []
    for number, line in _prose(text):
        bare = _CODE.sub(lambda code: "x" * len(code[0]), line)
        found += [Link(match[1], number, *match.span(1)) for match in _LINK.finditer(bare)]
    return found


def anchors(text: str) -> list[str]:
    """What can stand behind `#`: each heading's slug, and names that are written as HTML."""
    found: list[str] = []
    for _, line in _prose(text):
        found += _NAMED.findall(line)
        if heading := _HEADING.match(line):
            words = _SHOWN_LINK.sub(r"\1", heading[1]).replace("`", "").replace("*", "").lower()
            slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
            same = sum(slug == re.sub(r"-\d+$", "", other) for other in found)
            found.append(f"{slug}-{same}" if slug in found else slug)
    return found


def pages(root: Path) -> list[Path]:
    """The Markdown files that belong to the repository, relative to it; new ones that git does not ignore too."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    out = subprocess.run(listed, cwd=root, check=True, capture_output=True, text=True).stdout
    return sorted(Path(line) for line in set(out.splitlines()) if (root / line).is_file())


def faults(root: Path) -> list[str]:
    """A sentence for each relative link that leads nowhere."""
    told = []
    for page in pages(root):
        for link in links((root / page).read_text()):
            if re.match(r"[a-z]+:", link.target):
                continue
            path, _, anchor = link.target.partition("#")
            target = (root / page.parent / path).resolve() if path else root / page
            where = f"{page}:{link.line}: {link.target}"
            if not target.is_relative_to(root.resolve()) or not target.exists():
                told.append(f"{where}: there is no such file")
            elif anchor and (target.suffix != ".md" or anchor not in anchors(target.read_text())):
                told.append(f"{where}: there is no such heading")
    return told
