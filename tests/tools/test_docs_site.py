"""The documentation site has every page once, and links lead to pages or to the repository."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.docs_site import ROOT, staged, target_in_site

SHOWN = {Path(name) for name in ("README.md", "docs/README.md", "docs/api.md", "docs/images/a.png")}


@pytest.mark.parametrize(
    ("page", "target", "expected"),
    [
        ("README.md", "docs/api.md#x", "docs/api.md#x"),
        ("docs/api.md", "../README.md#run-one", "../index.md#run-one"),
        ("docs/api.md", "README.md", "index.md"),
        ("docs/README.md", "images/a.png", "images/a.png"),
        ("docs/api.md", "#own", "#own"),
        ("docs/api.md", "https://example.com/a.md", "https://example.com/a.md"),
        ("docs/api.md", "../protos/v1#x", "https://github.com/p2p-sidecar/sidecar/blob/main/protos/v1#x"),
    ],
)
def test_targets(page: str, target: str, expected: str) -> None:
    assert target_in_site(Path(page), target, SHOWN) == expected


def _pages(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from _pages(part)


def test_every_page_stands_in_the_navigation_once() -> None:
    nav = tomllib.loads((ROOT / "tools/docs_site.toml").read_text())["project"]["nav"]
    assert sorted(_pages(nav)) == sorted(map(str, staged()))
