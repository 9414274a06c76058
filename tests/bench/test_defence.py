"""The table of what attacks did to real sidecars: where it goes, and what it says."""

import asyncio
from pathlib import Path

import pytest

from bench import defence, page
from bench.defence import ATTACKS, Outcome


def test_only_what_is_between_the_marks_is_replaced() -> None:
    before = (page.DOCS / "defence.md").read_text(encoding="utf-8")
    once = defence.replaced(before, "the new table\n")
    assert "\n\nthe new table\n\n" in once
    assert before.partition("<!-- make attack: begin")[0] == once.partition("<!-- make attack: begin")[0]
    assert before.partition("<!-- make attack: end")[2] == once.partition("<!-- make attack: end")[2]
    assert defence.replaced(once, "the new table") == once


@pytest.mark.parametrize(
    "document",
    [
        "# Title\n",
        "<!-- make attack: begin -->\n",
        "<!-- make attack: end -->\n",
        "<!-- make attack: end -->\n<!-- make attack: begin -->\n",
        "<!-- make attack: begin -->\n<!-- make attack: begin -->\n<!-- make attack: end -->\n",
    ],
)
def test_a_page_without_a_place_for_it_is_left_as_it_is(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "defence.md").write_text(document)
    monkeypatch.setattr(page, "DOCS", tmp_path)
    monkeypatch.setattr(defence, "ATTACKS", ())
    with pytest.raises(ValueError, match="the page has no <!-- make attack: begin -->"):
        asyncio.run(defence.run([], 1.0, into_page=True))
    assert (tmp_path / "defence.md").read_text() == document


def test_a_line_of_the_table_and_what_must_not_be() -> None:
    times = {"p50": 2.0, "p99": 4.0}
    outcome = Outcome(
        ATTACKS[0], sent=200, received=200, before=times, during={"p50": 3.0, "p99": 9.0}, after=times, cpu=0.11,
        grown_mb=17.0, away=[0.0, 0.1], connections=2,
    )  # fmt: skip
    assert outcome.row() == (
        "| invalid signatures, 8 connections | 100 % | 2.0 / 4.0 ms | 3.0 / 9.0 ms | 2.0 / 4.0 ms | 2.2 | 11% | "
        "+17 MB | all, after 0.0 to 0.1 s | - |"
    )
    assert outcome.faults == []
    assert "(2.2)" in defence.verdict([outcome])
    outcome.received, outcome.repeated, outcome.grown_mb = 199, 1, 200.0
    assert [fault.partition(" ")[0] for fault in outcome.faults] == ["1", "1", "memory"]
    assert "| 99.50 % |" in outcome.row()
