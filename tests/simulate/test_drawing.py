"""Pictures of reports: what is drawn where there is much, little or something odd."""

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from sidecar.simulate.drawing import (
    RunSet,
    bounded_figure,
    bytes_figure,
    delay_curves,
    delay_figure,
    moments_figure,
    rate_figure,
    spread_figure,
)
from sidecar.simulate.page import Figure

SVG = "{http://www.w3.org/2000/svg}"
Run = list[dict[str, Any]]


def texts(drawn: list[Figure]) -> list[str]:
    (figure,) = drawn
    return [text.text or "" for text in ElementTree.fromstring(figure.svg).iter(f"{SVG}text")]


def bars(drawn: list[Figure], series: int = 1) -> list[tuple[float, float]]:
    """Right end and height of each bar of a series, in units of the picture."""
    (figure,) = drawn
    found = re.findall(rf'd="([^"]*)" clip-path="[^"]*" style="fill: var\(--series-{series},', figure.svg)
    corners = [[tuple(map(float, point)) for point in re.findall(r"[ML] (\S+) (\S+)", path)] for path in found]
    return [(max(x for x, _ in each), max(y for _, y in each) - min(y for _, y in each)) for each in corners]


def right_end(drawn: list[Figure]) -> float:
    """Of the axes, in units of the picture: what is beyond is cut off."""
    clip = re.search(r"<rect x=\"(\S+)\" y=\"\S+\" width=\"(\S+)\"", drawn[0].svg)
    assert clip is not None
    return float(clip[1]) + float(clip[2])


def dots(drawn: list[Figure], series: int) -> int:
    (figure,) = drawn
    return len(
        re.findall(rf'<use xlink:href="#\w+" x="[^"]*" y="[^"]*" style="fill: var\(--series-{series},', figure.svg)
    )


def curve(of: str, *values: float) -> dict[str, Any]:
    return {"record": "curve", "of": of, "percent": [0, 50, 99, 100], "values": list(values)}


def message(number: int, p50: float | None, longest: float | None, missed: int = 0) -> dict[str, Any]:
    return {"record": "message", "at": float(number), "p50": p50, "max": longest, "missed": missed}


def histogram(kind: str, *pairs: tuple[float, int]) -> RunSet:
    return RunSet("", [[{"record": kind, "histogram": list(map(list, pairs))}]])


@pytest.mark.parametrize(
    ("values", "label", "shown", "not_shown"),
    [
        ((0.01, 0.03, 0.05, 0.06), "delay (ms)", "60", "120"),
        ((0.01, 0.03, 0.05, 9.0), "delay (ms)", "60", "200"),  # one that came late does not make all others a line
        ((5.0, 20.0, 30.0, 40.0), "delay (s)", "40", "400"),
        ((0.0, 0.0, 0.0, 0.0), "delay (ms)", "0", "5"),
    ],
)
def test_axes_of_delays(values: tuple[float, ...], label: str, shown: str, not_shown: str) -> None:
    found = texts(delay_figure([curve("delay", *values)], "caption"))
    assert label in found
    assert shown in found
    assert not_shown not in found


def test_a_curve_for_each_run_and_one_name_for_each_set() -> None:
    sets = [RunSet(name, [[curve("delay", 0.0, x, x, x)] for x in (0.1, 0.2)]) for name in ("one", "other")]
    drawn = delay_curves(sets, "delay", "title", "caption")
    assert [texts(drawn).count(name) for name in ("one", "other")] == [1, 1]
    for series in (1, 2):
        lines = re.findall(rf"stroke: var\(--series-{series},[^)]*\); stroke-opacity: 0.8", drawn[0].svg)
        assert len(lines) == 3, "two curves, and the legend's"


def test_many_values_are_joined_and_few_are_no_wide_blocks() -> None:
    def drawn(each: RunSet) -> list[Figure]:
        return spread_figure([each], "connections", "title", "caption", across="connections", of="nodes")

    assert len(bars(drawn(histogram("connections", *((value, 1) for value in range(10, 310)))))) == 30
    apart = drawn(histogram("connections", (24, 9), (99, 1)))
    assert 0 < bars(apart)[0][0] < bars(apart)[1][0] < right_end(apart), "the last one is whole"
    ((place, _),) = bars(drawn(histogram("connections", (7, 3))))
    assert 100 < place < 250, "in the middle"
    low, high = bars(drawn(histogram("connections", (1, 10), (2, 30))))
    assert high[1] / low[1] == pytest.approx(3.0, rel=1e-3)
    assert high[0] - low[0] < 80
    assert drawn(RunSet("", [[]])) == []


def test_records_of_a_kind_are_one_picture() -> None:
    run = [{"record": "mesh", "histogram": [[4, 5]]}, {"record": "mesh", "histogram": [[4, 1], [5, 2]]}]
    four, five = bars(spread_figure([RunSet("", [run])], "mesh", "title", "caption", across="links", of="nodes"))
    assert four[1] / five[1] == pytest.approx(3.0, rel=1e-3)


def test_upper_bounds_are_told_as_ranges() -> None:
    run = [{"record": "dht", "questions": [[1.0, 4], [2.0, 0], [5.0, 2], [10.0, 0], [20.0, 0], [None, 1]]}]
    drawn = bounded_figure([RunSet("", [run])], "questions", "title", "caption", across="questions", of="lookups")
    assert {"1", "2", "3-5", "6-10", "11-20", "> 20"} <= set(texts(drawn))
    run[0]["questions"] = [[1.0, 4], [2.0, 0], [5.0, 2], [10.0, 0], [None, 0]]
    drawn = bounded_figure([RunSet("", [run])], "questions", "title", "caption", across="questions", of="lookups")
    assert "3-5" in texts(drawn)
    assert "6-10" not in texts(drawn), "there are none of these, nor above"
    run[0]["questions"] = [[1.0, 0], [None, 0]]
    assert bounded_figure([RunSet("", [run])], "questions", "t", "c", across="questions", of="lookups") == []


def test_messages_over_time() -> None:
    few = [message(1, 0.01, 0.02), message(2, 0.01, 0.02, missed=1), message(3, None, None, missed=5)]
    drawn = moments_figure(few, "caption")
    assert {"published at (s)", "delay (ms)", "last receiver", "half of all", "missed by some"} <= set(texts(drawn))
    assert [dots(drawn, series) for series in (1, 2, 5)] == [3, 3, 2], "with those of the legend"
    many = moments_figure([message(number, 0.01, 0.02) for number in range(1000)], "caption")
    assert 100 < dots(many, 1) <= 122
    assert "missed by some" not in texts(many)
    assert moments_figure(few[2:], "caption") == []


def test_bytes_before_and_after_the_first_message() -> None:
    run: Run = [{"record": "run", "nodes": 3, "hostile": 1}]
    for service, sent, before, rate in (("dht", 3 << 21, 1 << 21, 7.0), ("gossip", 6 << 21, 1 << 21, 5000.0)):
        run.append(
            {
                "record": "bytes",
                "service": service,
                "sent": sent,
                "sent_before_first_message": before,
                "per_node_second": rate,
            }
        )
    drawn = bytes_figure(run, "caption")
    assert {"sent by a node (MiB)", "until the first message", "from then on"} <= set(texts(drawn))
    found = texts(drawn)
    assert found.index("gossip") < found.index("dht"), "the most first"
    assert bars(drawn, 2)[0][1] / bars(drawn, 1)[0][1] == pytest.approx(5.0, rel=1e-3)
    assert bars(drawn, 2)[1][1] / bars(drawn, 1)[1][1] == pytest.approx(2.0, rel=1e-3)
    rates = rate_figure([RunSet("one", [run]), RunSet("other", [run, [{"record": "run"}]])], "caption")
    assert "sent by a node (KiB/s)" in texts(rates)
    assert bars(rates, 1)[0][1] / bars(rates, 2)[0][1] == pytest.approx(2.0, rel=1e-3)
