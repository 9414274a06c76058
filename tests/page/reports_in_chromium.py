"""The pages of `sidecar sim` in a real Chromium: `make page-test`. It makes the picture of docs/simulation.md."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from sidecar.cli import main

from .browser import IMAGES, chromium, visit

ROOT = Path(__file__).resolve().parents[2]
_SMALLEST = 9.0  # pixels: what letters are high that can still be read


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sim")
    assert main(["sim", "run", str(ROOT / "scenarios/baseline-100.toml"), "--out", str(place / "one"), "--quiet"]) == 0
    words = ["sim", "compare", str(place / "one"), str(place / "one"), "--page", str(place / "both.html")]
    assert main(words) == 0
    return place


@pytest.mark.parametrize("width", [360, 400, 800, 1200])
@pytest.mark.parametrize("file", ["one/report.html", "both.html"])
def test_it_can_be_read_at_any_width(browser: Browser, folder: Path, file: str, width: int) -> None:
    with visit(browser, f"file://{folder / file}", width=width) as seen:
        assert seen.width() <= width
        sizes = seen.page.evaluate(
            "[...document.querySelectorAll('svg text')].map(text => parseFloat(getComputedStyle(text).fontSize)"
            " * text.closest('svg').clientWidth / text.closest('svg').viewBox.baseVal.width)"
        )
        assert min(sizes) >= _SMALLEST
        beside = len({box["x"] for figure in seen.page.locator("figure").all() if (box := figure.bounding_box())})
        assert beside == {360: 1, 400: 1, 800: 2, 1200: 3}[width]
        assert "Half of all deliveries" in seen.text("header") or "99 % of deliveries" in seen.text("header")


def test_it_follows_the_systems_wish_for_light_or_dark(browser: Browser, folder: Path) -> None:
    looks = []
    for scheme in ("light", "dark"):
        with visit(browser, f"file://{folder}/one/report.html", scheme=scheme) as seen:
            looks.append(
                seen.page.evaluate(
                    "['body', 'figcaption', 'svg text', 'figure path[style*=series-1]'].map((part) =>"
                    " { const style = getComputedStyle(document.querySelector(part));"
                    " return [style.backgroundColor, style.color, style.fill, style.stroke].join() })"
                )
            )
    light, dark = looks
    assert [one != other for one, other in zip(light, dark, strict=True)] == [True] * 4


def test_the_picture_is_taken(browser: Browser, folder: Path) -> None:
    with visit(browser, f"file://{folder}/one/report.html", width=1200) as seen:
        seen.picture("simulation.png", 745)
    assert (IMAGES / "simulation.png").stat().st_size < 120_000
