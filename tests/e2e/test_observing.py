"""Metrics, liveness and readiness of real sidecars, over HTTP."""

import json
import os
import pty
import urllib.error
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from .processes import PATIENCE, running


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_metrics_and_probes_are_served_where_they_are_asked_for(tmp_path: Path) -> None:
    lonely = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
    with running(tmp_path / "1", "--metrics", "127.0.0.1:0", "--bootstrap", lonely) as sidecar:
        url = sidecar.line("  metrics").split()[-1].removesuffix("/metrics")
        assert get(f"{url}/live") == (200, '{"live": true}\n')
        status, body = get(f"{url}/ready")
        conditions = {condition["type"]: condition for condition in json.loads(body)["conditions"]}
        assert (status, conditions["Listening"]["met"]) == (503, True)
        told = {c["type"]: c for c in json.loads(sidecar.command("status", "--json").stdout)["conditions"]}
        assert conditions["Bootstrapped"]["remedy"] == told["Bootstrapped"]["remedy"] != ""
        status, body = get(f"{url}/metrics")
        names = {family.name for family in text_string_to_metric_families(body)}
        assert {"sidecar_ready", "sidecar_api_calls", "process_cpu_seconds"} <= names
        assert 'sidecar_api_calls_total{code="OK",method="NodeService/GetReadiness"} 1.0' in body
        with running(tmp_path / "2", "--metrics", url.removeprefix("http://")) as second:
            assert second.ended() == 5
            assert "cannot be bound" in second.log()
        assert sidecar.terminate() == 0


def test_without_being_asked_nothing_is_served(tmp_path: Path) -> None:
    with running(tmp_path) as sidecar:
        sidecar.line("Ready after")
        assert "metrics" not in sidecar.log()
        maps = Path(f"/proc/{sidecar.popen.pid}/maps")
        assert not maps.exists() or "prometheus" not in maps.read_text()
        assert sidecar.terminate() == 0


def test_the_log_is_json_where_nobody_looks_and_text_on_a_terminal(tmp_path: Path) -> None:
    with running(tmp_path / "1", "--log-format", "auto", "--log-levels", "net=debug,app=error") as sidecar:
        sidecar.line("Ready after")
        assert sidecar.terminate() == 0
        lines = [json.loads(line) for line in sidecar.log().splitlines()]
        assert {line["level"] for line in lines if line["logger"].startswith("sidecar.net")} >= {"info"}
        assert [line for line in lines if line["logger"] == "sidecar.app"] == []
    ours, theirs = pty.openpty()
    with running(tmp_path / "2", "--log-format", "auto", stderr=theirs) as sidecar:
        os.close(theirs)
        sidecar.line("Ready after")
        assert " INFO net.runtime: listening on /ip4/127.0.0.1/tcp/" in os.read(ours, 65536).decode()
        assert sidecar.terminate() == 0
    os.close(ours)
