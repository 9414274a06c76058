"""The pages of reports: they say what the report says, need nothing else, and are the same for equal seeds."""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sidecar.cli import main
from sidecar.simulate import pictures
from sidecar.simulate.play import Play
from sidecar.simulate.reading import load_scenario
from sidecar.simulate.report import records
from sidecar.simulate.run_page import run_page
from sidecar.simulate.summary import summary, time_words
from sidecar.simulate.writing import Cost, costs
from tests.e2e.processes import running

TWENTY = """\
about = "Twenty nodes."
duration = 20
settled = 4
[nodes.plain]
count = 20
over = 2
topics = ["news"]
[[publish]]
topic = "news"
publishers = 3
count = 6
rate = 2
start = 12
"""
COST = Cost(2.0, 1.5, 1 << 26, ((1.0, 0.5), (2.0, 1.0), (3.0, 1.5)))
TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "section", "h1", "h2", "h3", "p", "div", "b",
    "span", "figure", "figcaption", "pre", "table", "thead", "tbody", "tr", "th", "td",
    "svg", "g", "defs", "path", "use", "text", "clippath", "rect",
}  # fmt: skip


class Reader(HTMLParser):
    """What a browser would make of a page: its elements, attributes and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.texts.append(data)


def check(page: str) -> Reader:
    """That it is whole, and that nothing in it leads elsewhere or runs."""
    read = Reader(page)
    assert read.tags <= TAGS
    assert [
        value for name, value in read.attributes if name in ("href", "xlink:href") and not value.startswith("#")
    ] == []
    assert [name for name, _ in read.attributes if name.startswith("on") or name in ("src", "srcset")] == []
    style = "".join(re.findall(r"<style>(.*?)</style>", page, re.DOTALL)) + "".join(
        value for name, value in read.attributes if name in ("style", "clip-path")
    )
    assert not re.search(r"url\((?!#)|@import|image-set", style)
    names = [value for name, value in read.attributes if name == "id"]
    assert len(names) == len(set(names))
    return read


def played(tmp_path: Path, text: str, name: str = "some") -> list[dict[str, Any]]:
    file = tmp_path / f"{name}.toml"
    file.write_text(text)
    play = Play(load_scenario(file))
    play.run()
    return records(play)


def loaded(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "report.jsonl").read_text().splitlines()]


def first(report: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(record for record in report if record["record"] == kind)


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report."""
    folder = tmp_path_factory.mktemp("twenty")
    file = folder / "twenty.toml"
    file.write_text(TWENTY)
    assert main(["sim", "run", str(file), "--out", str(folder / "out"), "--quiet"]) == 0
    return folder / "out"


def test_a_page_says_what_the_report_says(twenty: Path) -> None:
    read = check((twenty / "report.html").read_text())
    report = loaded(twenty)
    taken = json.loads((twenty / "cost.json").read_text())
    delay, hops, dht = first(report, "deliveries")["delay"], first(report, "hops"), first(report, "dht")
    shown = "\n".join(read.texts)
    assert (
        f"Half of all deliveries took at most {time_words(delay['p50'])}, 99 % at most {time_words(delay['p99'])}"
        in shown
    )
    assert f"{first(report, 'limit')['ratio']['p99']:.2f} times what the shortest paths take" in shown
    assert "Nobody missed a message." in shown
    assert f"until a node had it: {hops['min']} to {hops['max']} (median {hops['p50']}, p99 {hops['p99']})" in shown
    assert f"{dht['found']} of {dht['lookups']} lookups came to their end" in shown
    assert f"{first(report, 'copies')['per_delivery']:.2f}" in read.texts
    assert "\n".join(summary(report)) in shown
    assert f"{taken['cpu_seconds']:.1f} s" in read.texts
    for axis in (
        "delay (ms)", "hops", "copies of a message", "sent by a node (KiB)", "mesh links", "connections", "questions",
        "CPU for a virtual second (s)", "share (%)", "share of nodes (%)",
    ):  # fmt: skip
        assert axis in read.texts
    assert {"all deliveries", "last receiver", "shortest path", "gossip", "dht"} <= set(read.texts)


def test_hostile_names_are_texts(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>&\\\"'$_{"
    text = TWENTY.replace("Twenty nodes.", evil).replace('"news"', f'"{evil}"')
    report = played(tmp_path, text, "<b onclick=x>$")
    page = run_page(report, costs(report, COST))
    read = check(page)
    shown = "\n".join(read.texts)
    assert evil.replace("\\", "") in shown
    assert "<b onclick=x>$" in read.texts


def test_a_run_without_messages_and_one_where_all_die(tmp_path: Path) -> None:
    report = played(tmp_path, 'duration = 2\n[nodes.plain]\ncount = 3\ntopics = ["t"]\n')
    assert "No message was published." in check(run_page(report, costs(report, COST))).texts
    text = TWENTY + '[[event]]\nwhat = "kill"\nat = 12.001\ncount = 20\n'
    report = played(tmp_path, text)
    shown = check(run_page(report, costs(report, COST))).texts
    assert "None of the 19 deliveries that were owed arrived." in shown, "only the first message had a publisher"
    assert "connections  none a node" in "\n".join(summary(report))


def test_what_went_wrong_is_said_first(twenty: Path) -> None:
    report = loaded(twenty)
    report[0] |= {"whole": False, "played": 15.0}
    first(report, "deliveries")["missed"] = 3
    page = run_page(report, costs(report, COST))
    (result,) = re.findall(r'<p class="result bad">(.*?)</p>', page)
    assert result.startswith("Broken off after 15.0 of 20 s. Half of all")
    assert result.endswith(" 3 of 114 deliveries were missed.")


def test_without_the_extra_there_is_a_report_but_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    file = tmp_path / "short.toml"
    file.write_text("duration = 1\n[nodes.plain]\ncount = 2\n")
    out = tmp_path / "out"
    assert main(["sim", "run", str(file), "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert told.out.endswith(f"the whole report is in {out} (begin with summary.txt)\n")
    assert told.err == "sidecar: there is no report.html: it needs pip install 'p2p-sidecar[sim]'\n"
    assert sorted(path.name for path in out.iterdir()) == ["cost.json", "report.jsonl", "summary.txt"]
    assert main(["sim", "compare", str(out), str(out), "--page", str(tmp_path / "page.html")]) == 1
    assert capsys.readouterr().err.endswith("page.html: it needs pip install 'p2p-sidecar[sim]'\n")
    assert not (tmp_path / "page.html").exists()


def test_a_page_of_an_older_run_does_not_stay_beside_a_report_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "short.toml"
    file.write_text("duration = 1\n[nodes.plain]\ncount = 2\n")
    assert main(["sim", "run", str(file), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/report.html").exists()
    assert "(begin with report.html)" in capsys.readouterr().out
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    assert main(["sim", "run", str(file), "--out", str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out/report.html").exists()


def test_a_sidecar_that_runs_loads_nothing_that_draws(tmp_path: Path) -> None:
    with running(tmp_path, program=(sys.executable, "-X", "importtime", "-m", "sidecar")) as sidecar:
        sidecar.line("Ready after")
        assert sidecar.terminate() == 0
        loaded = set(re.findall(r"^import time: .*\| +(\S+)$", sidecar.log(), re.MULTILINE))
    assert "sidecar.app" in loaded
    assert {name.split(".")[0] for name in loaded} & {"matplotlib", "numpy", "PIL"} == set()
    assert not any(name.startswith("sidecar.simulate") for name in loaded)


# ------------------------------------------------------------ two sets beside each other


def compared(tmp_path: Path, *extra: str) -> tuple[int, Path]:
    for name, degree in (("usual", 8), ("lean", 4)):
        settings = f"config.gossip.degree = {degree}\nconfig.gossip.degree_low = 3\nconfig.gossip.degree_out = 1\n"
        for seed in (1, 2):
            report = played(tmp_path, TWENTY.replace("over = 2\n", "over = 2\n" + settings), name)
            report[0]["seed"] = seed
            folder = tmp_path / name / str(seed)
            folder.mkdir(parents=True)
            (folder / "report.jsonl").write_text("".join(json.dumps(record) + "\n" for record in report))
    page = tmp_path / "both.html"
    return main(["sim", "compare", "usual", "lean", "--page", str(page), *extra]), page


def test_both_sets_are_in_each_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, page = compared(tmp_path)
    assert code == 0
    told = capsys.readouterr().out.splitlines()
    text = page.read_text()
    read = check(text)
    drawn = re.findall(r"<figure>\n<h3>(.*?)</h3>\n(<svg.*?</svg>)", text, re.DOTALL)
    assert [title for title, _ in drawn] == [
        "How long messages took", "Until the last one had it", "Shortest paths", "Hops", "Copies",
        "What a node sends, by service", "Mesh", "Connections", "Hops of lookups", "Questions of lookups",
    ]  # fmt: skip
    for title, svg in drawn:
        assert (">usual</text>" in svg, ">lean</text>" in svg) == (True, True), title
    assert {told[0], told[1]} <= set(read.texts), "which is which"
    assert any(line.startswith("99 % of deliveries take at most ") for line in read.texts)
    for line in told[4:]:
        name = re.split(r"  +", line)[0]
        assert name in read.texts


def test_what_is_wrong_with_a_comparison_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    broken = {"record": "curve", "of": "delay", "percent": [1], "values": "no"}
    run = {"record": "run", "scenario": "x", "seed": 1, "whole": True}
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.jsonl").write_text(json.dumps(run) + "\n" + json.dumps(broken) + "\n")
    assert main(["sim", "compare", "a", "b", "--page", "page.html"]) == 1
    assert "sidecar: one of the reports of a and b is damaged: " in capsys.readouterr().err
    assert main(["sim", "run", "a", "--page", "page.html"]) == 2
    assert "--page goes with `sidecar sim compare`; a run writes its own, report.html" in capsys.readouterr().err
    for name in "ab":
        (tmp_path / name / "report.jsonl").write_text(json.dumps(run) + "\n")
    assert main(["sim", "compare", "a", "b", "--page", "none/page.html"]) == 1
    assert capsys.readouterr().err == "sidecar: none/page.html: No such file or directory\n"
    assert main(["sim", "compare", "a", "b", "--page", "page.html"]) == 0
    assert "Neither has published a message." in check((tmp_path / "page.html").read_text()).texts
