"""The command line without a sidecar: help, keys, configuration, and errors in one line."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sidecar.cli import COMMANDS, main
from sidecar.commands.common import said
from sidecar.commands.common.client import Output, payload, printable
from sidecar.commands.common.said import called
from sidecar.commands.status import duration
from sidecar.config import KEYS
from sidecar.store.swarm_key import load_psk


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("SIDECAR_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_help_names_every_command_and_loads_none_of_them() -> None:
    script = (
        "import sys\nfrom sidecar.cli import main\n"
        "try:\n    main(['--help'])\n"
        "finally:\n    late = {'grpc', 'uvloop', 'nacl', 'asyncio', 'shtab', 'pathlib', 'shlex'}\n"
        "    print(sorted({m.split('.')[0] for m in sys.modules} & late))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert [name for name in COMMANDS if f"\n  {name} " not in done.stdout] == []
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: sidecar {name} ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["statsu"], "no command statsu; did you mean `sidecar status`?"),
        (["qqqq"], "no command qqqq (help: `sidecar --help`)"),
        (["run", "--gossip-degre", "6"], "no flag --gossip-degre; did you mean --gossip-degree?"),
        (["run", "--gossip-degre=6"], "no flag --gossip-degre; did you mean --gossip-degree?"),
        (["status", "--jsno"], "no flag --jsno; did you mean --json?"),
        (["--api", "x", "statsu"], "no command statsu"),
        (["status", "more", "words"], "too much: more words"),
    ],
)
def test_what_is_mistyped_is_told_with_the_nearest(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"sidecar: {said}")
    assert error.count("\n") == 1


def test_without_a_command_it_says_what_to_do_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    error = capsys.readouterr().err
    assert [f"  sidecar {name} " in error for name in ("demo", "run", "status", "--help")] == [True] * 4


@pytest.mark.parametrize("before", [["--api", "{}"], ["--api={}"], ["--json", "--timeout", "3", "--api", "{}"]])
def test_flags_of_a_command_may_stand_before_it(
    before: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    socket = str(home / "status")
    assert main([*(word.format(socket) for word in before), "status"]) == 3
    assert f"unix:{socket}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["run", "config", "token", "keygen", "doctor"])
def test_flags_of_keys_are_in_the_long_help_alone(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = {}
    for flag in ("--help", "--help-all"):
        with pytest.raises(SystemExit) as ended:
            main([name, flag])
        assert ended.value.code == 0
        shown[flag] = capsys.readouterr().out
    assert "--help-all" in shown["--help"]
    assert "--gossip-degree" not in shown["--help"]
    assert [entry.flags[-1] for entry in KEYS.values() if f"{entry.flags[-1]} " not in shown["--help-all"]] == []
    assert main(["config", "--gossip-degree", "7", "--json"]) == 0


def test_with_json_errors_are_json_as_well(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json", "--api", str(home / "none.sock")]) == 3
    told = json.loads(capsys.readouterr().err)
    assert told["exit_code"] == 3
    assert "no sidecar answers" in told["error"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["status", "--json", "--no-such-flag"], 2, "no flag --no-such-flag"),
        (["--json", "statsu"], 2, "no command statsu"),
        (["config", "--json", "--config", "none.toml"], 2, "cannot be read"),
        (["doctor", "--json", "--config", "none.toml"], 2, "cannot be read"),
        (["keygen", "--json", "--log-level", "loud"], 2, "log.level"),
        (["token", "list", "--json", "--log-level", "loud"], 2, "log.level"),
        (["token", "revoke", "nobody", "--json"], 1, "tokens.json"),
        (["publish", "news", "--json"], 2, "give a message"),
        (["protect", "--off", "--json"], 2, "--off takes the peer"),
        (["record", "get", "/app/name", "value", "--json"], 2, "put takes a value"),
        (["id", "--json", "--key", "none.key"], 1, "none.key"),
        (["trace", "show", "none.trace", "--json"], 1, "none.trace"),
        (["dashboard", "--json", "--token-file", "/dev/null/none"], 2, "cannot be used"),
        (["status", "--json", "--api", "host"], 2, "'host'"),
    ],
)
def test_every_error_in_json_has_the_exit_code(
    words: list[str],
    code: int,
    said: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(home)
    try:
        ended = main(words)
    except SystemExit as exit:
        ended = exit.code  # type: ignore[assignment]
    error = capfd.readouterr().err
    told = json.loads(error)
    assert (told["exit_code"], ended) == (code, code)
    assert said in told["error"]
    assert error.count("\n") == 1


def test_it_names_itself_as_it_was_called(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = home / "bin" / "sidecar"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.chdir(home)
    for typed, found, shown in (
        ("bin/sidecar", "/usr/bin", "bin/sidecar"),
        (str(program), "/usr/bin", "bin/sidecar"),
        (str(program), str(program.parent), "sidecar"),
        ("/somewhere/else/pytest", "/usr/bin", "sidecar"),
    ):
        monkeypatch.setenv("PATH", found)
        monkeypatch.setattr(sys, "argv", [typed])
        assert called() == shown
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.chdir(program.parent)
    program.unlink()
    program.parent.rmdir()  # and with it the current directory
    assert called() == str(program)


def test_without_a_sidecar_one_line_says_what_to_do(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--api", str(home / "none.sock")]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"sidecar: no sidecar answers at unix:{home / 'none.sock'}")
    assert "start one with `sidecar run`" in captured.err
    assert captured.err.count("\n") == 1


def test_ctrl_c_while_a_command_is_loaded_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("importlib.import_module", interrupted)
    assert main(["run"]) == 130


@pytest.mark.parametrize("words", [["status", "--timeout", "soon"], ["subscribe", "news", "--count", "-1"]])
def test_numbers_that_are_none_are_told(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert f"{words[-1]} is not a number of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "variables", "said"),
    [
        (["status", "--api", "host"], {}, "target 'host' (as given) is none of these"),
        (["status"], {"SIDECAR_TOKEN_FILE": "none"}, "token_file: none cannot be read: No such file or directory"),
        (
            ["run", "--config", "none.toml"],
            {},
            "configuration file none.toml cannot be read: No such file or directory",
        ),
        (["protect", "--off"], {}, "--off takes the peer"),
    ],
)
def test_what_was_typed_wrong_is_told_and_ends_with_2(
    words: list[str],
    variables: dict[str, str],
    said: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(home)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"sidecar: {said}")
    assert error.count("\n") == 1


def test_a_sidecar_that_hangs_is_not_taken_for_none(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(home / "api.sock"))
        hanging.listen()
        assert main(["status", "--api", str(home / "api.sock")]) == 3
    error = capsys.readouterr().err
    assert "a process is there and says nothing" in error
    assert "`sidecar run`" not in error


def test_the_configured_socket_is_where_commands_look(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIDECAR_API_SOCKET", str(home / "configured.sock"))
    assert main(["peers"]) == 3
    assert f"unix:{home / 'configured.sock'}" in capsys.readouterr().err
    monkeypatch.setenv("SIDECAR_API", f"unix:{home / 'named.sock'}")
    assert main(["peers"]) == 3
    assert f"unix:{home / 'named.sock'}" in capsys.readouterr().err
    monkeypatch.delenv("SIDECAR_API")
    monkeypatch.setenv("SIDECAR_API_SOCKETT", "x")
    assert main(["peers"]) == 2
    assert "SIDECAR_API_SOCKETT sets no key" in capsys.readouterr().err


def test_no_sidecar_starts_at_a_path_that_is_too_long_for_a_socket(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--socket", "/" + 107 * "x"]) == 2
    assert "the path of a Unix socket has at most 107 bytes, this one has 108" in capsys.readouterr().err


def test_config_shows_what_is_in_force(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--listen", "/ip4/127.0.0.1/tcp/1", "--listen", "/ip6/::1/tcp/1"]) == 0
    shown = capsys.readouterr().out
    assert tomllib.loads(shown)["listen"]["addresses"] == ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1"]
    assert "# --listen" in shown
    assert main(["config", "--json", "--log-level", "debug"]) == 0
    assert json.loads(capsys.readouterr().out)["log.level"] == {"value": "debug", "origin": "--log-level"}
    assert main(["config", "--template"]) == 0
    assert "#level = " in capsys.readouterr().out
    assert main(["config", "--log-level", "loud"]) == 2
    assert capsys.readouterr().err.startswith("sidecar: --log-level: log.level = 'loud'")


def test_keygen_makes_a_key_once_and_id_reads_it(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["keygen", "--json"]) == 0
    made = json.loads(capfd.readouterr().out)
    file = home / ".local/state/sidecar/identity.key"
    assert made["file"] == str(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert main(["keygen"]) == 1
    assert f"{file} is there already" in capfd.readouterr().err
    assert main(["id", "--key", str(file)]) == 0
    assert capfd.readouterr().out.split() == [made["peer_id"], made["cid"]]
    assert main(["keygen", str(home / "other.key")]) == 0
    assert capfd.readouterr().out.split()[0] != made["peer_id"]
    (home / "garbage").write_bytes(b"no key")
    assert main(["id", "--key", str(home / "garbage")]) == 1
    assert main(["keygen", str(home / "missing" / "key")]) == 1
    assert main(["keygen", str(home / "garbage" / "key")]) == 1  # below a file
    assert capfd.readouterr().err.count("sidecar: ") == 3


def test_keygen_makes_the_key_of_a_private_network_once(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["keygen", "--psk", str(home / "swarm.key")]) == 0
    assert capfd.readouterr().out == f"{home / 'swarm.key'}\n"
    assert len(load_psk(home / "swarm.key")) == 32
    assert main(["keygen", "--psk", str(home / "swarm.key")]) == 1
    assert "not overwritten" in capfd.readouterr().err
    assert main(["keygen", "--psk", "--json"]) == 0
    assert len(load_psk(Path(json.loads(capfd.readouterr().out)["file"]))) == 32


def test_payloads_cannot_steer_a_terminal() -> None:
    assert printable(b"two\nlines\x1b[2J \xff") == "two\nlines\\x1b[2J \\xff"
    assert payload("ö".encode()) == {"text": "ö"}
    assert payload(b"\xff") == {"base64": "/w=="}


HOSTILE = "a\x1b[2J\x7f\x9b1m\r\u202eb\u2028\udc80😀ö"


def test_no_text_of_others_can_steer_a_terminal_or_forge_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    said.as_json = False
    asyncio.run(Output(False).record({}, f"{HOSTILE}\nforged", "next\ttab"))
    asyncio.run(Output(False).content({}, f"{HOSTILE}: ", b"two\nlines\x1b[2J"))
    asyncio.run(Output(False).complain(f"{HOSTILE}\nforged"))
    told = capfd.readouterr()
    escaped = "a\\x1b[2J\\x7f\\x9b1m\\r\\u202eb\\u2028\\udc80😀ö"
    assert told.out == f"{escaped}\\nforged\nnext\ttab\n{escaped}: two\nlines\\x1b[2J\n"
    assert told.err == f"sidecar: {escaped}\\nforged\n"


def test_no_json_can_steer_a_terminal(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(said, "as_json", True)
    fields = {HOSTILE: [HOSTILE, "\n\t", "\U000e0001"]}
    asyncio.run(Output(True).record(fields))
    said.complain(HOSTILE)
    told = capfd.readouterr()
    for line in (told.out, told.err):
        assert line.removesuffix("\n").isprintable()
        assert "😀ö" in line
    assert json.loads(told.out) == fields
    assert json.loads(told.err) == {"error": HOSTILE}


def test_times_are_told_in_two_units() -> None:
    assert [duration(s) for s in (0.2, 59, 60, 200, 7500, 90000)] == [
        "0 s",
        "59 s",
        "1 min",
        "3 min 20 s",
        "2 h 5 min",
        "1 d 1 h",
    ]


def test_a_command_is_loaded_without_looking_for_garbage() -> None:
    script = (
        "import gc, sys\n"
        "collected = []\n"
        "gc.callbacks.append(lambda phase, info: collected.append(phase))\n"
        "from sidecar.cli import main\n"
        "collected.clear()\n"
        "try:\n    main(['status', '--help'])\n"
        "finally:\n    print(collected.count('start') < 5, gc.isenabled())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("True True\n")
