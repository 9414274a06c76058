"""Links in Markdown: found outside of code, and those of this repository lead somewhere."""

import subprocess
from pathlib import Path

from tools.links import Link, anchors, faults, links

ROOT = Path(__file__).parents[2]


def test_every_link_of_this_repository_leads_somewhere() -> None:
    assert faults(ROOT) == []


def test_links_are_found_outside_of_code() -> None:
    text = "a [b](c.md#d) `[no](no.md)` ![e](f.png)\n```\n[no](no.md)\n```\n[![g](h.png)](i.md)\n"
    assert links(text) == [
        Link("c.md#d", 1, 6, 12),
        Link("f.png", 1, 33, 38),
        Link("h.png", 5, 6, 11),
        Link("i.md", 5, 14, 18),
    ]


def test_anchors_are_those_of_github() -> None:
    text = '# Why?\n## `sidecar` & *co*, once\n```\n# no\n```\n## [Twice](x.md)\n## Twice\n<a id="own"></a>\n'
    assert anchors(text) == ["why", "sidecar--co-once", "twice", "twice-1", "own"]


def test_what_leads_nowhere_is_told_with_its_place(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "there.md").write_text("# There\n")
    (tmp_path / "page.md").write_text(
        "[a](there.md#there) [b](#page) [c](https://example.com/#x)\n\n"
        "[d](gone.md) [e](there.md#gone) [f](../x)\n# Page\n"
    )
    assert faults(tmp_path) == [
        "page.md:3: gone.md: there is no such file",
        "page.md:3: there.md#gone: there is no such heading",
        "page.md:3: ../x: there is no such file",
    ]
