"""`sidecar token`: what it prints, keeps and refuses."""

import json
import stat
from pathlib import Path

import pytest

from sidecar.api.guard.quota import Quotas
from sidecar.api.guard.tokens import TokenFile, split
from sidecar.cli import main
from sidecar.process.audit import user


def token(home: Path, *words: str) -> int:
    return main(["token", *words, "--state", str(home / "state")])


def created(home: Path, name: str, *words: str) -> int:
    return token(home, "create", "--name", name, *words)


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("SIDECAR_TOKEN", "not a key of the configuration")


def test_create_list_revoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert created(tmp_path, "app1", "--allow", "publish:news/*", "--allow", "subscribe:*", "--expires", "30d") == 0
    text = capsys.readouterr().out.strip()
    parts = split(text)
    assert parts is not None
    file = TokenFile(tmp_path / "state" / "tokens.json")
    kept = file.read()[parts[0]]
    assert kept.proved_by(parts[1])
    assert kept.allow == ("publish:news/*", "subscribe:*")
    assert kept.expires == kept.created + 30 * 86400
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700

    assert token(tmp_path, "list") == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"app1  {kept.id}  until ")
    assert parts[1] not in shown
    assert token(tmp_path, "list", "--json") == 0
    assert json.loads(capsys.readouterr().out)["allow"] == ["publish:news/*", "subscribe:*"]

    assert created(tmp_path, "app1", "--allow", "*") == 1
    assert "revoke it first" in capsys.readouterr().err
    assert token(tmp_path, "revoke", "app1") == 0
    assert file.read() == {}
    assert token(tmp_path, "revoke", "app1") == 1
    assert "no token is named app1" in capsys.readouterr().err


def test_the_file_may_be_kept_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "for-a-secret.json"
    assert created(tmp_path, "app1", "--allow", "*", "--api-tokens", str(file)) == 0
    file.chmod(0o440)
    assert token(tmp_path, "list", "--api-tokens", str(file)) == 0
    assert "app1" in capsys.readouterr().out
    assert not (tmp_path / "state" / "tokens.json").exists()


def test_quotas_are_kept_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--calls", "100/s", "--messages", "1000/s", "--bytes", "1MiB/s", "--streams", "10", "--subscriptions", "5")
    assert created(tmp_path, "app1", "--allow", "*", *words) == 0
    assert created(tmp_path, "app2", "--allow", "*") == 0
    (kept, free) = TokenFile(tmp_path / "state" / "tokens.json").read().values()
    assert kept.quotas.streams == 10
    assert free.quotas == Quotas()
    capsys.readouterr()
    assert token(tmp_path, "list") == 0
    assert "calls 100/s  messages 1000/s  bytes 1MiB/s  streams 10  subscriptions 5" in capsys.readouterr().out
    assert token(tmp_path, "list", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["quotas"]["bytes"] == "1MiB/s"


def test_the_audit_log_has_who_made_and_revoked_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert created(tmp_path, "app1", "--allow", "subscribe:*", "--expires", "1d") == 0
    text = capsys.readouterr().out.strip()
    assert token(tmp_path, "revoke", "app1") == 0
    file = tmp_path / "state" / "audit.log"
    made, gone = (json.loads(line) for line in file.read_text().splitlines())
    assert (made["action"], made["name"], made["allow"]) == ("token.created", "app1", ["subscribe:*"])
    assert (gone["action"], gone["name"], gone["id"]) == ("token.revoked", "app1", made["id"])
    assert made["caller"] == gone["caller"] == user()
    assert text.split("_", 2)[2] not in file.read_text()

    elsewhere = tmp_path / "elsewhere.log"
    assert created(tmp_path, "app2", "--allow", "*", "--audit-file", str(elsewhere)) == 0
    assert json.loads(elsewhere.read_text())["name"] == "app2"
    assert created(tmp_path, "app3", "--allow", "*", "--audit-file", str(tmp_path)) == 0  # made all the same


def test_into_a_file_that_is_not_there_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "app.token"
    assert created(tmp_path, "app", "--allow", "*", "--out", str(out), "--json") == 0
    shown = capsys.readouterr().out
    text = out.read_text().strip()
    assert split(text) is not None
    assert text not in shown
    assert json.loads(shown)["file"] == str(out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert created(tmp_path, "other", "--allow", "*", "--out", str(out)) == 1
    assert created(tmp_path, "other", "--allow", "*", "--out", str(tmp_path / "no" / "such" / "place")) == 1
    assert out.read_text().strip() == text
    assert [kept.name for kept in TokenFile(tmp_path / "state" / "tokens.json").read().values()] == ["app"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["create", "--name", "a"], "--allow"),
        (["create", "--allow", "*"], "--name"),
        (["create", "--name", "a b", "--allow", "*"], "1 to 64"),
        (["create", "--name", "a", "--allow", "pubish:x"], "begins with none of"),
        (["create", "--name", "a", "--allow", "*", "--expires", "soon"], "--expires soon"),
        (["create", "--name", "a", "--allow", "*", "--calls", "many"], "quota calls = 'many'"),
        (["revoke"], "name or id"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert token(tmp_path, *words) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "state" / "tokens.json").exists()
