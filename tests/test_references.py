"""What comments and docstrings name in backticks is there: a name that was changed is not left behind in words."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("sidecar", "clients/python/src", "tests", "bench", "tools")
NAMED = re.compile(r"`([A-Za-z_][\w.]*)(?:\(.*?\))?`")
OTHERS = {"max_transmit_size"}  # rust-libp2p's


def python(*rooms: str) -> Iterator[tuple[Path, list[tokenize.TokenInfo]]]:
    for room in rooms:
        for file in sorted((ROOT / room).rglob("*.py")):
            if "node_modules" not in file.parts and not file.name.endswith(("_pb2.py", "_pb2_grpc.py")):
                yield file, list(tokenize.generate_tokens(io.StringIO(file.read_text()).readline))


def is_words(token: tokenize.TokenInfo) -> bool:
    return token.type == tokenize.COMMENT or (token.type == tokenize.STRING and token.string.startswith('"""'))


def test_what_comments_and_docstrings_name_is_there() -> None:
    files = list(python(*ROOMS))
    known = set(OTHERS)
    for file, tokens in files:
        known.update(file.relative_to(ROOT).with_suffix("").parts, (file.name,))
        for token in tokens:
            if token.type == tokenize.NAME:
                known.add(token.string)
            elif token.type == tokenize.STRING and not is_words(token):
                known.update(re.findall(r"\w+", token.string))
    for schema in (ROOT / "protos").rglob("*.proto"):
        known.update(re.findall(r"\w+", schema.read_text()))
    lost = [
        f"{file.relative_to(ROOT)}:{token.start[0]}: {named}"
        for file, tokens in files
        for token in tokens
        if is_words(token)
        for named in NAMED.findall(token.string)
        if not named.endswith((".py", ".md", ".toml", "...")) and not known.issuperset(named.strip(".").split("."))
    ]
    assert len(known) > 5000
    assert lost == []
