"""The alert rules and the dashboard: Prometheus' own tool evaluates every query over what real sidecars tell."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from sidecar.cli import COMMANDS
from sidecar.config.schema import KEYS

from .promtool import promtool
from .small_mesh import SmallMesh

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "deploy" / "monitoring"
RUNBOOK = ROOT / "docs" / "runbook.md"
GIVEN_BY_PROMETHEUS = {"job", "instance", "le"}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((PLACE / "alerts.yaml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def panels() -> Iterator[dict[str, Any]]:
    for panel in json.loads((PLACE / "dashboard.json").read_text())["panels"]:
        if panel["type"] != "row":
            yield panel


def queries() -> list[tuple[str, str]]:
    """Expression and legend of every target of the dashboard, with its variables filled in."""
    found = []
    for panel in panels():
        for target in panel["targets"]:
            expression = target["expr"].replace("$instance", ".*").replace("$__rate_interval", "1m")
            found.append((expression, target["legendFormat"]))
    return found


@pytest.fixture(scope="module")
def series(small_mesh: SmallMesh) -> dict[str, list[dict[str, str]]]:
    """The labels of every series that was scraped, by name, as Prometheus would have them."""
    found: dict[str, list[dict[str, str]]] = {"up": []}
    for number, text in enumerate(small_mesh.scraped()):
        about = {"job": "sidecar", "instance": f"node-{number}:9464"}
        found["up"].append(about)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, []).append({**sample.labels, **about})
    return found


def evaluated(expressions: list[str], series: dict[str, list[dict[str, str]]], at: str) -> Any:
    """Let promtool run expressions that each must have a result, over series that all stand still."""
    written = [
        {"series": f"{name}{{{','.join(f'{k}={json.dumps(v)}' for k, v in labels.items())}}}", "values": "7x20"}
        for name, all_labels in series.items()
        for labels in all_labels
    ]
    wanted = [
        {"expr": f"count({expression}) > bool 0", "eval_time": at, "exp_samples": [{"labels": "{}", "value": 1}]}
        for expression in expressions
    ]
    tests = [{"interval": "15s", "input_series": written, "promql_expr_test": wanted}]
    return {"rule_files": [], "evaluation_interval": "15s", "tests": tests}


def test_every_query_of_the_dashboard_has_a_result(tmp_path: Path, series: dict[str, list[dict[str, str]]]) -> None:
    expressions = [expression for expression, _ in queries()]
    assert len(expressions) > 50
    file = tmp_path / "queries.yaml"
    file.write_text(json.dumps(evaluated(expressions, series, "4m")))
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_query_without_a_result_would_be_noticed(tmp_path: Path, series: dict[str, list[dict[str, str]]]) -> None:
    for wrong in ("sidecar_redy", 'sidecar_queue_bytes{queue="gosip"}'):
        file = tmp_path / "queries.yaml"
        file.write_text(json.dumps(evaluated([wrong], series, "4m")))
        assert promtool("test", "rules", str(file)).returncode == 1


def test_every_metric_and_label_in_use_is_told_by_a_sidecar(series: dict[str, list[dict[str, str]]]) -> None:
    uses = [*queries(), *((rule["expr"], str(rule["annotations"])) for rule in rules())]
    for expression, shown in uses:
        names = set(re.findall(r"\b((?:sidecar|process|python)_[a-z_]+|up)\b", expression))
        assert names, expression
        assert [name for name in names if name not in series] == [], expression
        having = set.union(*(set(labels) for name in names for labels in series[name]))
        used = set(re.findall(r'([a-z_]+)\s*(?:=~|!~|!=|=)\s*"', expression))
        for group in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
            used |= {label.strip() for label in group.split(",")}
        used |= set(re.findall(r"{{ *(?:\$labels\.)?([a-z_]+) *}}", shown)) - {"value"}
        assert used <= having | GIVEN_BY_PROMETHEUS, expression


def test_the_dashboard_fits_together() -> None:
    document = json.loads((PLACE / "dashboard.json").read_text())
    ids = [panel["id"] for panel in document["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        place = panel["gridPos"]
        columns, lines = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        cells = {(column, line) for column in columns for line in lines}
        assert columns.stop <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
    assert {variable["name"] for variable in document["templating"]["list"]} == {"datasource", "instance"}


def test_the_rules_are_rules_and_their_unit_tests_pass() -> None:
    checked = promtool("check", "rules", "alerts.yaml", cwd=PLACE)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = promtool("test", "rules", "alerts.test.yaml", cwd=PLACE)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_is_tested_to_fire_and_to_stay_quiet() -> None:
    fires: set[str] = set()
    quiet: set[str] = set()
    for test in yaml.safe_load((PLACE / "alerts.test.yaml").read_text())["tests"]:
        for check in test["alert_rule_test"]:
            (fires if check["exp_alerts"] else quiet).add(check["alertname"])
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    assert fires == quiet == set(names)


# ---------------------------------------------------------------- the runbook


def sections() -> dict[str, str]:
    """Title -> text, of the sections of the runbook below its two chapters."""
    found: dict[str, str] = {}
    for piece in re.split(r"^### ", RUNBOOK.read_text(), flags=re.M)[1:]:
        title, _, text = piece.partition("\n")
        found[title] = re.split(r"^## ", text, flags=re.M)[0]
    return found


def reasons() -> dict[str, bool]:
    """Every reason of readiness in the sources, and whether it is one of a condition that is met."""
    found: dict[str, bool] = {}
    others = (ROOT / "sidecar/observe/health.py", ROOT / "sidecar/api/node/readiness.py")
    for file in (*(ROOT / "sidecar/core/node").glob("*.py"), *others):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Condition":
                _, met, reason, *_ = call.args
                assert isinstance(met, ast.Constant)
                assert isinstance(reason, ast.Constant)
                found[reason.value] = met.value
    return found


def test_the_runbook_has_a_section_for_each_alert_and_each_reason_and_no_other() -> None:
    text = RUNBOOK.read_text()
    alerts, waiting = text.split("## Reasons why a sidecar is not ready")
    assert re.findall(r"^### (.+)", alerts, re.M) == [rule["alert"] for rule in rules()]
    unmet = {reason for reason, met in reasons().items() if not met}
    assert unmet >= {"Starting", "NoPeers", "NoAddress", "Stopping"}
    assert set(re.findall(r"^### (.+)", waiting, re.M)) == unmet
    assert set(re.findall(r"^\| `(\w+)` \|", waiting, re.M)) == {reason for reason, met in reasons().items() if met}
    for title, section in sections().items():
        assert len(section.split()) > 25, f"{title} says too little"


def test_each_alert_links_to_its_section() -> None:
    for rule in rules():
        address, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert address.endswith("/docs/runbook.md")
        assert anchor == rule["alert"].lower()
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"]


def test_what_the_runbook_names_there_is(series: dict[str, list[dict[str, str]]]) -> None:
    text = RUNBOOK.read_text()
    metrics = re.findall(r"`((?:sidecar|process)_[a-z_]+)[`{]", text)
    assert metrics
    assert [name for name in metrics if name not in series] == []
    commands = re.findall(r"`sidecar ([a-z][a-z-]*)", text)
    assert commands
    assert [name for name in commands if name not in COMMANDS] == []
    keys = re.findall(r"`([a-z]+\.[a-z_]+)(?: = [^`]*)?`", text)
    assert keys
    assert [name for name in keys if name not in KEYS] == []
