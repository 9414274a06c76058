"""Scopes: what a token allows, as `kind:pattern`.

A pattern is a name in which each `*` stands for any text, `/` included and the empty one too. `*` alone allows
everything. The names of `peers` and `node` are fixed words.
"""

from ...core.errors import InvalidArgument
from ...core.patterns import matches

KINDS = {
    "publish": "publish on topics of that name",
    "subscribe": "subscribe to topics of that name",
    "validate": "judge the messages of topics of that name before anybody gets them",
    "probe": "measure how long messages on topics of that name take to reach the others, who are named",
    "send": "send messages of that direct protocol",
    "receive": "receive messages of that direct protocol",
    "request": "make requests of that direct protocol",
    "serve": "answer requests of that direct protocol",
    "stream": "open and accept byte streams of that protocol",
    "advertise": "advertise that name in the DHT",
    "discover": "find peers that advertise that name",
    "record": "put and get records of that key",
    "peers": "read: list, watch and find peers; manage: connect, disconnect, ping; ban: ban, allow, protect",
    "node": "read: counters, topics, rules, the log, the configuration; manage: the levels of the log; rules: set them",
}
FIXED = {"peers": ("read", "manage", "ban"), "node": ("read", "manage", "rules")}
EVERYTHING = "*"
MAX_SCOPE = 1200  # bytes; a topic may have 1024


def check(scope: str) -> str:
    """A scope as a person writes it. Raises InvalidArgument."""
    if scope == EVERYTHING:
        return scope
    kind, colon, pattern = scope.partition(":")
    if kind not in KINDS:
        raise InvalidArgument(f"scope {scope[:100]!r}: begins with none of {', '.join(KINDS)}, and is not *")
    if not colon or not pattern:
        raise InvalidArgument(f"scope {scope[:100]!r}: a name follows, as in {kind}:{(*FIXED.get(kind, ()), '*')[0]}")
    if len(scope.encode()) > MAX_SCOPE or not scope.isprintable():
        raise InvalidArgument(f"scope {scope[:100]!r}: at most {MAX_SCOPE} bytes of printable text")
    if kind in FIXED and pattern not in (*FIXED[kind], "*"):
        raise InvalidArgument(f"scope {scope!r}: there are {', '.join(f'{kind}:{word}' for word in FIXED[kind])}")
    return scope


def covers(allowed: str, scope: str) -> bool:
    """Whether an allowed scope covers one that is needed. Takes time linear in the two for a fixed number of `*`."""
    if allowed == EVERYTHING:
        return True
    kind, _, pattern = allowed.partition(":")
    needed_kind, _, name = scope.partition(":")
    return kind == needed_kind and matches(pattern, name)
