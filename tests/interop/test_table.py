"""The table that `make interop` writes."""

import pytest

from tests.interop.run import Result, Table


def result(language: str, outcome: str = "passed", role: str = "", reason: str = "", group: str = "basics") -> Result:
    return Result(group, "ping", language, role, outcome, reason)


def test_a_row_has_a_column_for_each_implementation() -> None:
    text = Table([result("go"), result("js", "failed"), result("py")]).markdown()
    assert text.splitlines()[2].startswith("| basics | ping | yes | **NO** |")


def test_roles_are_named_where_they_differ() -> None:
    text = Table([result("go", role="we dial"), result("go", "failed", role="they dial")]).markdown()
    assert "yes (we dial); **NO** (they dial)" in text
    assert "dial" not in Table([result("go", role="we dial"), result("go", role="they dial")]).markdown()


def test_reasons_are_numbered_once() -> None:
    skipped = [result("js", "skipped", role, "not offered: no RSA keys\nmore") for role in ("we dial", "they dial")]
    text = Table(skipped).markdown()
    assert "no [1]" in text
    assert text.count("js: no RSA keys") == 1


def test_rows_follow_the_groups_and_a_wrong_group_is_noticed() -> None:
    text = Table([result("go", group="refusals"), result("go", group="connection")]).markdown()
    assert text.index("connection") < text.index("refusals")
    with pytest.raises(KeyError):
        Table([result("go", group="nonsense")]).markdown()
