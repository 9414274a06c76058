"""A sidecar that asks for tokens, as its operator and an app see it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.processes import PATIENCE, Process, command, environment, running


def as_app(process: Process, token: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "sidecar", words[0], "--api", str(process.socket), *words[1:]],
        env=environment(process.home) | {"SIDECAR_TOKEN_FILE": str(token)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
    )


def test_an_app_does_what_its_token_allows_until_that_is_revoked(tmp_path: Path) -> None:
    with running(tmp_path / "a", "--api-require-token", "true") as process:
        process.line("Ready")
        state = ("--state", str(process.state))
        token = tmp_path / "app.token"
        words = ("create", "--name", "app", "--allow", "publish:news/*", "--out", str(token))
        made = command(process.home, "token", *words, *state)
        assert made.returncode == 0, made.stderr
        refused = process.command("status")
        assert refused.returncode == 1
        assert "sidecar token create" in refused.stderr
        assert "NO_PEERS" in as_app(process, token, "publish", "news/today", "hello").stdout  # allowed; nobody is there
        refused = as_app(process, token, "publish", "olds", "hello")
        assert refused.returncode == 1
        assert "the token app does not allow publish:olds" in refused.stderr
        assert command(process.home, "token", "revoke", "app", *state).returncode == 0
        refused = as_app(process, token, "publish", "news/today", "hello")
        assert refused.returncode == 1
        assert "not valid here" in refused.stderr
        audit = process.state / "audit.log"
        assert token.read_text().strip() not in process.log() + audit.read_text()
        lines = [json.loads(line) for line in audit.read_text().splitlines()]
        happened = ["node.started", "token.created", "tokens.loaded", "token.revoked", "tokens.loaded"]
        assert [line["action"] for line in lines] == happened
        assert lines[0]["configuration"]["api.require_token"] is True
        assert lines[2]["added"] == lines[4]["removed"] == ["app"]


def test_other_machines_are_not_served_unguarded(tmp_path: Path) -> None:
    with running(tmp_path / "a", "--tcp", "0.0.0.0:0") as process:
        assert process.popen.wait(PATIENCE) == 2
        assert "api.tls_certificate" in process.log()
        assert not os.path.lexists(process.socket)
