"""Pictures: the same text for the same points, harmless names, and bars as high as they are worth."""

import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from sidecar.simulate.pictures import COLOURS, Axis, Form, Series, draw

SVG = "{http://www.w3.org/2000/svg}"
X, Y = Axis("delay (ms)", least=0.0), Axis("deliveries (%)", least=0.0, most=100.0)
EVERYTHING = [
    Series("all", [(10.0, 0.0), (20.0, 50.0), (40.0, 100.0)]),
    Series("best", [(5.0, 0.0), (30.0, 100.0)], Form.DASHED, 5),
    Series("", [(5.0, 20.0)], Form.DOTS, notes=["d = 6"]),
    Series("again", [(6.0, 0.0), (31.0, 100.0)], Form.THIN),
    Series("some", [(1.0, 2.0), (2.0, 4.0)], Form.BARS),
]


def texts(svg: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def heights(svg: str, colour: str) -> list[float]:
    """Of what is filled with a colour, in units of the picture."""
    found = re.findall(rf'd="([^"]*)" clip-path="[^"]*" style="fill: var\(--series-\d, {colour}\)', svg)
    ups = [[float(number) for number in re.findall(r"[ML] \S+ (\S+)", path)] for path in found]
    return [max(up) - min(up) for up in ups]


def test_axes_say_what_they_show_and_in_which_unit() -> None:
    svg = draw("delay", 'how late & "so"', X, Y, EVERYTHING)
    assert {"delay (ms)", "deliveries (%)", "all", "best", "again", "some", "d = 6", "100"} <= set(texts(svg))
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert root.attrib["aria-label"] == 'how late & "so"'
    assert "var(--series-1, #0d8075)" in svg
    assert not re.search(r"(?:src|href)=\"(?!#)|@import|url\((?!#)", svg), "it asks nobody for anything"


def test_bars_are_as_high_as_they_are_worth() -> None:
    svg = draw("b", "", X, Y, [Series("a", [(1, 80), (2, 20)], Form.BARS), Series("b", [(1, 40)], Form.BARS)])
    high, low = heights(svg, COLOURS[0])
    (other,) = heights(svg, COLOURS[1])
    assert high / low == pytest.approx(4.0, rel=1e-3)
    assert high / other == pytest.approx(2.0, rel=1e-3)


def test_equal_points_give_equal_text_under_any_hash_seed_and_configuration() -> None:
    script = (
        "from tests.simulate.test_pictures import EVERYTHING, X, Y\n"
        "from sidecar.simulate.pictures import draw\n"
        "import matplotlib\n"
        "{}\n"
        "print(draw('delay', 'how late', X, Y, EVERYTHING))"
    )
    drawn = []
    for seed, setting in (("0", ""), ("4242", "matplotlib.rcParams['figure.facecolor'] = 'red'")):
        done = subprocess.run(
            [sys.executable, "-c", script.format(setting)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        drawn.append(done.stdout)
    assert drawn[0] == drawn[1] == draw("delay", "how late", X, Y, EVERYTHING) + "\n"


def test_no_two_pictures_of_a_page_use_one_name() -> None:
    names = [set(re.findall(r' id="([^"]+)"', draw(name, "", X, Y, EVERYTHING))) for name in ("one", "other")]
    assert names[0]
    assert names[1]
    assert not names[0] & names[1]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ('"#16202b" & font-family: x;', '"#16202b" & font-family: x;'),
        (r"$\frac{", r"$\frac{"),
        ("_hidden", "_hidden"),
        ("漢字 \U0001f600", "漢字 \U0001f600"),
        ("\x1b[31m\u202ered", "\\x1b[31m\\u202ered"),
        ("x" * 200, "x" * 39 + "…"),
    ],
)
def test_hostile_names_are_texts(name: str, shown: str) -> None:
    svg = draw("hostile", name, X, Y, [Series(name, [(1.0, 1.0)], notes=[name]), Series("b", [(2.0, 1.0)])])
    assert texts(svg).count(shown) == 2
    assert "<script" not in svg


def test_wide_ranges_are_drawn_by_powers() -> None:
    svg = draw("wide", "", Axis("bytes", log=True), Y, [Series("", [(1.0, 10.0), (100_000.0, 90.0)])])
    assert {"1", "10", "1,000", "100,000"} <= set(texts(svg))
    svg = draw("narrow", "", Axis("bytes", log=True), Y, [Series("", [(10.0, 10.0), (60.0, 90.0)])])
    assert {"10", "20", "50"} <= set(texts(svg))


def test_named_places_and_pictures_of_nothing() -> None:
    svg = draw("bytes", "", Axis("", names=["gossip", "dht"]), Y, [Series("", [(0, 3), (1, 4)], Form.BARS)])
    assert {"gossip", "dht"} <= set(texts(svg))
    assert "delay (ms)" in texts(draw("none", "", X, Y, [Series("a", []), Series("b", [], Form.BARS)]))
