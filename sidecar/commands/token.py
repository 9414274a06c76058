"""`sidecar token`."""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from ..api.guard import quota, scopes
from ..api.guard.tokens import TOKENS_FILE, Token, TokenFile
from ..config import state_directory
from ..config.kinds import seconds
from ..core.errors import InvalidArgument, StorageError
from ..process.audit import AUDIT_FILE, Audit, user
from ..store.files import write_once
from .common.config_flags import add_config_flags, errors_told, load_config
from .common.exit_codes import FAILED
from .common.said import failed, moment, note

_LONGEST = 100 * 365 * 86400.0  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "sidecar token create --name NAME --allow SCOPE... [--expires TIME] [--out FILE] [--json] [--state PATH]\n"
        "           [--calls N/s] [--messages N/s] [--bytes N/s] [--streams N] [--subscriptions N] [--open-calls N]\n"
        "       sidecar token list [--json] [--state PATH]\n"
        "       sidecar token revoke NAME [--json] [--state PATH]"
    )
    parser.add_argument("action", choices=("create", "list", "revoke"), help="what to do")
    parser.add_argument("which", metavar="NAME", nargs="?", help="revoke: the token's name or id")
    parser.add_argument("--name", help="create: what to call it, in logs too; only one token has it")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="SCOPE", help="create: what it allows; may be given many times"
    )
    parser.add_argument("--expires", metavar="TIME", help="create: for how long, such as 12h or 30d; default: for ever")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="create: write it to this new file, mode 0600, and do not print it"
    )
    for name, example, meaning in _QUOTAS:
        parser.add_argument(
            f"--{name.replace('_', '-')}", metavar=example, help=f"create: at most so many {meaning}; default: no limit"
        )
    parser.add_argument("--json", action="store_true", help="one JSON document a line, for scripts")
    add_config_flags(parser)
    parser.epilog = (
        "scopes, in which * stands for any text; * alone is all of them:\n"
        + "".join(f"  {kind + ':' + _example(kind):22}{meaning}\n" for kind, meaning in scopes.KINDS.items())
        + "\nA running sidecar takes notice at once. The token is shown this once; only a hash of it is kept.\n"
        "What each method of the API takes: docs/security.md."
    )


_QUOTAS = (
    ("calls", "100/s", "calls begun in a second (/m: a minute, /h: an hour)"),
    ("messages", "1000/s", "messages, requests and answers sent"),
    ("bytes", "1MiB/s", "bytes sent in calls, as encoded"),
    ("streams", "10", "streaming calls open at once"),
    ("subscriptions", "5", "topics subscribed to at once"),
    ("open_calls", "100", "calls of any kind open at once"),
)


_OF_TOPICS = ("publish", "subscribe", "probe")


def _example(kind: str) -> str:
    names = {"advertise": "NAME", "discover": "NAME", "record": "KEY", **dict.fromkeys(_OF_TOPICS, "TOPIC")}
    return "|".join(scopes.FIXED[kind]) if kind in scopes.FIXED else names.get(kind, "PROTOCOL")


@errors_told
def run(options: argparse.Namespace) -> int:
    config = load_config(options).config
    directory = state_directory(config, os.environ)
    elsewhere = config.api.tokens
    file = TokenFile(elsewhere or directory / TOKENS_FILE, kept_elsewhere=elsewhere is not None)
    audit = Audit(config.audit.file or directory / AUDIT_FILE, config.audit.limit)
    if options.action == "create":
        return _create(options, file, audit, directory)
    if options.action == "revoke":
        return _revoke(options, file, audit)
    return _list(options, file)


def _create(options: argparse.Namespace, file: TokenFile, audit: Audit, state: Path) -> int:
    if not options.name or not options.allow or options.which:
        raise InvalidArgument("create takes --name and --allow, such as --name app1 --allow 'publish:news/*'")
    quotas = quota.read({name: getattr(options, name) for name, _, _ in _QUOTAS})
    now = time.time()
    expires = None if options.expires is None else now + _lifetime(options.expires)
    if options.out is not None and os.path.lexists(options.out):
        return failed(FAILED, f"{options.out} is there already; it is not overwritten")
    for place in (state, file.path.parent):
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"the directory {place} cannot be made: {error.strerror}") from None
    token, text = file.create(options.name, options.allow, expires, now, quotas)
    if options.out is not None:
        try:
            write_once(options.out, f"{text}\n".encode(), "token")
        except StorageError:
            file.revoke(token.id)  # nobody has it
            raise
    shown = _document(token)
    audit.record("token.created", user(), **shown)
    told = json.dumps(shown | ({"token": text} if options.out is None else {"file": str(options.out)}))
    try:
        print(told if options.json else text if options.out is None else options.out, flush=True)
    except OSError:
        if options.out is None:  # nobody has it
            file.revoke(token.id)
            audit.record("token.revoked", user(), id=token.id, name=token.name)
            note(f"the token could not be written, so it has been revoked: {token.name}")
        raise
    return 0


def _lifetime(text: str) -> float:
    kind = seconds(1, _LONGEST)
    try:
        return float(kind.read(text))
    except ValueError as error:
        raise InvalidArgument(f"--expires {text}: {error}; allowed: {kind.allowed}") from None


def _list(options: argparse.Namespace, file: TokenFile) -> int:
    now = time.time()
    found = file.read()
    if not found and not options.json:
        print(f"no tokens in {file.path}")
    for token in sorted(found.values(), key=lambda token: token.name):
        if options.json:
            print(json.dumps(_document(token)))
            continue
        until = "for ever" if token.expires is None else f"until {moment(token.expires)}"
        until += " (expired)" if token.expired(now) else ""
        limits = "".join(f"  {name} {limit}" for name, limit in token.quotas.described().items())
        print(f"{token.name}  {token.id}  {until}  {' '.join(token.allow)}{limits}")
    return 0


def _revoke(options: argparse.Namespace, file: TokenFile, audit: Audit) -> int:
    if not options.which:
        raise InvalidArgument("revoke takes the token's name or id; `sidecar token list` shows them")
    token = file.revoke(options.which)
    audit.record("token.revoked", user(), id=token.id, name=token.name)
    print(json.dumps(_document(token)) if options.json else f"revoked {token.name}")
    return 0


def _document(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "allow": list(token.allow),
        "created": moment(token.created),
        "expires": None if token.expires is None else moment(token.expires),
        "quotas": token.quotas.described(),
    }
