"""Completion: the scripts hold all that can be typed, and the shells read them."""

import argparse
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.cli import COMMANDS, main
from sidecar.commands.completion import everything
from sidecar.config import KEYS

SHELLS = ("bash", "zsh", "fish")


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("completion")
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        for shell in SHELLS:
            printed: list[str] = []
            patch.setattr("builtins.print", printed.append)
            assert main(["completion", shell]) == 0
            made[shell] = place / shell
            made[shell].write_text("".join(printed))
    return made


@pytest.fixture
def complete(scripts: dict[str, Path], tmp_path: Path) -> Callable[..., list[str]]:
    """What bash makes of words, the last of which is not typed to its end."""
    (tmp_path / "node.toml").touch()
    (tmp_path / "nodes").mkdir()

    def completed(*words: str) -> list[str]:
        done = subprocess.run(
            [
                *("bash", "--norc", "-c"),
                'source "$1"; shift; COMP_WORDS=(sidecar "$@"); COMP_CWORD=$#; '
                '"$(complete -p sidecar | sed "s/.*-F \\([^ ]*\\) .*/\\1/")" sidecar; printf "%s\\n" "${COMPREPLY[@]}"',
                *("bash", scripts["bash"], *words),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=True,
        )
        assert done.stderr == ""
        return sorted(done.stdout.split())

    return completed


def _flags(parser: argparse.ArgumentParser) -> set[str]:
    return {flag for action in parser._actions for flag in action.option_strings if action.help != argparse.SUPPRESS}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_and_every_flag_is_in_the_script(shell: str, scripts: dict[str, Path]) -> None:
    text = scripts[shell].read_text()
    commands = next(action for action in everything()._actions if isinstance(action.choices, dict))
    assert list(commands.choices or ()) == list(COMMANDS)
    for name, parser in (commands.choices or {}).items():
        assert re.search(rf"(?<![\w-]){name}(?![\w-])", text), name
        names = _flags(parser)
        if shell == "fish":
            begin = f"complete -c sidecar -n '_shtab_sidecar_using {name}' "
            found = [line for line in text.splitlines() if line.startswith(begin)]
            missing = [
                flag
                for flag in names
                if not any(f" -{flag[1:].replace('-', 'l ', 1)} " in f"{line} " for line in found)
            ]
            missing = [flag for flag in missing if len(flag) > 2]  # -h, which is -s h
        else:
            kind = {"bash": "option_strings", "zsh": "options"}[shell]
            part = text.split(f"_shtab_sidecar_{name.replace('-', '_')}_{kind}=(", 1)[1].split("\n)", 1)[0]
            part = part if shell == "zsh" else part.split(")\n", 1)[0]
            missing = [flag for flag in names if not re.search(rf"(?<![\w-]){flag}(?![\w-])", part)]
        assert missing == [], name


def test_flags_of_all_keys_are_completed_where_the_long_help_has_them() -> None:
    commands = next(action for action in everything()._actions if isinstance(action.choices, dict)).choices or {}
    keys = {flag for entry in KEYS.values() for flag in entry.flags}
    with_keys = [name for name in COMMANDS if keys <= _flags(commands[name])]
    assert with_keys == ["run", "config", "keygen", "token", "doctor"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("subs",), ["subscribe"]),
        (("log-l",), ["log-level"]),
        (("--api", "x", "--json", "subs"), ["subscribe"]),
        (("status", "--stat"), ["--statistics"]),
        (("run", "--gossip-degree-l"), ["--gossip-degree-low"]),
        (("run", "--log-level", "w"), ["warning"]),
        (("config", "--api-require-token", ""), ["false", "true"]),
        (("log-level", "net", "n"), ["none"]),
        (("record", ""), ["get", "put"]),
        (("token", ""), ["create", "list", "revoke"]),
        (("completion", ""), ["bash", "fish", "zsh"]),
        (("run", "--config", "no"), ["node.toml", "nodes"]),
        (("--config", "node."), ["node.toml"]),
        (("trace", "show", "node."), ["node.toml"]),
        (("run", "--state", "no"), ["nodes"]),
        (("run", "--network-psk-file", "node."), ["node.toml"]),
        (("send", "PEER", ""), []),
    ],
)
def test_bash_completes(words: tuple[str, ...], found: list[str], complete: Callable[..., list[str]]) -> None:
    assert complete(*words) == found


def test_bash_completes_every_command(complete: Callable[..., list[str]]) -> None:
    assert complete("") == sorted(COMMANDS)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_reads_its_script(scripts: dict[str, Path]) -> None:
    script = 'autoload -U compinit; compinit -u -D; eval "$(<$1)"; print $_comps[sidecar]'
    done = subprocess.run(
        ["zsh", "-f", "-c", script, "zsh", scripts["zsh"]], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("_shtab_sidecar\n", "")


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes(scripts: dict[str, Path], tmp_path: Path) -> None:
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {scripts['fish']}; complete -C 'sidecar run --log-level w'"],
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/local/bin:/usr/bin:/bin"},
    )
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["warning"]
    assert done.stderr == ""


def test_a_shell_that_is_not_known_is_told_which_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["completion", "ksh"])
    assert ended.value.code == 2
    assert "choose from 'bash', 'zsh', 'fish'" in capsys.readouterr().err
