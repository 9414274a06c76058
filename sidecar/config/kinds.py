"""What a configuration value may be: how each kind is read, checked and written back.

A kind reads both what TOML gives (numbers, lists, strings) and the text of an environment variable or a flag, so that a
value is written the same way in all three places.
"""

import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ..core.classes import dataclass
from ..core.multiaddr import Multiaddr
from ..core.networks import Network
from ..core.parameters import Namespace, Rule
from ..core.parameters.bundles import MAX_PATTERNS, Bundling
from ..core.types import PeerId

MAX_SOCKET_PATH = 107  # bytes; sockaddr_un, less its NUL

_SIZES = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SECONDS = {"": 1.0, "S": 1.0, "MS": 0.001, "M": 60.0, "MIN": 60.0, "H": 3600.0, "D": 86400.0}
_Number = TypeVar("_Number", int, float)
Item = TypeVar("Item")
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value.

    `read` raises ValueError, with what is wrong as its text. `unit` and `allowed` are phrases for people. `write` gives
    the value as TOML spells it. `placeholder` stands for it in a command's help.
    """

    read: Callable[[object], Any]
    write: Callable[[Any], str]
    unit: str
    allowed: str
    placeholder: str
    many: bool = False
    ends: tuple[float, float] | None = None
    """The least and the greatest value of a range."""


def number(low: int, high: int, unit: str) -> Kind:
    """A whole number of `unit`s from `low` to `high`."""

    def read(value: object) -> int:
        if isinstance(value, str) and value.strip().removeprefix("-").isdecimal():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("not a whole number")
        return _between(value, low, high)

    return Kind(read, str, unit, f"a whole number from {low} to {high}", "N", ends=(low, high))


def size(low: int, high: int) -> Kind:
    """A number of bytes; as text also `64 KiB`, `1MiB`, `2GiB`."""

    def read(value: object) -> int:
        if isinstance(value, str):
            value = _quantity(value, _SIZES, "KiB, MiB or GiB")
        if isinstance(value, bool) or not isinstance(value, int | float) or value % 1:  # NaN for an infinite one
            raise ValueError("not a whole number of bytes")
        return _between(int(value), low, high)

    allowed = f"bytes from {write_size(low)} to {write_size(high)}, such as 65536 or 64KiB"
    return Kind(read, lambda value: json.dumps(write_size(value)), "bytes", allowed, "BYTES", ends=(low, high))


def seconds(low: float, high: float) -> Kind:
    """A time in seconds; as text also `250ms`, `30s`, `5m`, `1h`, `30d`."""

    def read(value: object) -> float:
        if isinstance(value, str):
            value = _quantity(value, _SECONDS, "ms, s, m, h or d")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("not a number of seconds")
        return _between(float(value), low, high)

    allowed = f"seconds from {low:.15g} to {high:.15g}, such as 30, 250ms or 5m"
    return Kind(read, lambda value: f"{value:.15g}", "seconds", allowed, "SECONDS", ends=(low, high))


def real(low: float, high: float) -> Kind:
    """A number from `low` to `high`."""

    def read(value: object) -> float:
        if isinstance(value, str):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("not a number")
        return _between(float(value), low, high)

    allowed = f"a number from {low:.15g} to {high:.15g}"
    return Kind(read, lambda value: f"{value:.15g}", "", allowed, "NUMBER", ends=(low, high))


def share(most: float = 1.0, least: float = 0.0) -> Kind:
    """A part of a whole, from `least` to `most`."""
    return replace(real(least, most), placeholder="SHARE")


def choice(*names: str) -> Kind:
    """One of a few words."""

    def read(value: object) -> str:
        if value not in names:
            raise ValueError("not one of the words allowed")
        return str(value)

    return Kind(read, json.dumps, "", "one of " + ", ".join(names), "|".join(names))


def choices(*names: str) -> Kind:
    """A list of some of a few words; as text separated by commas."""

    def one(word: str) -> str:
        if word not in names:
            raise ValueError(f"{word!r} is not one of the words allowed")
        return word

    allowed = f"a list of words, each one of {', '.join(names)}; as text separated by commas"
    distinct = _distinct(one, allowed, "NAME")

    def read(value: object) -> tuple[str, ...]:
        found: tuple[str, ...] = distinct.read(value)
        if not found:
            raise ValueError("the list is empty")
        return found

    return replace(distinct, read=read)


def flag() -> Kind:
    """Either `true` or `false`."""

    def read(value: object) -> bool:
        if isinstance(value, str) and value.lower() in ("true", "false"):
            value = value.lower() == "true"
        if not isinstance(value, bool):
            raise ValueError("neither true nor false")
        return value

    return Kind(read, lambda value: str(value).lower(), "", "true or false", "true|false")


def flag_or(word: str) -> Kind:
    """Either `true` or `false`, or a word that leaves it to the sidecar."""
    plain = flag()

    def read(value: object) -> bool | str:
        if value == word:
            return word
        try:
            return bool(plain.read(value))
        except ValueError:
            raise ValueError(f"neither true nor false nor {word}") from None

    return Kind(
        read,
        lambda value: json.dumps(value),
        "",
        f"true, false or {word}",
        f"true|false|{word}",
    )


def text(pattern: str, allowed: str, placeholder: str) -> Kind:
    """A text that matches `pattern` as a whole."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError("not a text")
        _check_unicode(value)
        if not re.fullmatch(pattern, value):
            raise ValueError("not of the form allowed")
        return value

    return Kind(read, json.dumps, "", allowed, placeholder)


def path(allowed: str) -> Kind:
    """A path; `~` is the home directory. Empty: the default place."""

    def read(value: object) -> Path | None:
        if not isinstance(value, str) or "\0" in value:
            raise ValueError("not a path")
        try:
            return Path(value).expanduser() if value else None
        except RuntimeError:
            raise ValueError("there is no home directory for the ~ in it; write it out") from None

    return Kind(read, lambda value: json.dumps(str(value) if value else ""), "", allowed, "PATH")


def socket_path(allowed: str) -> Kind:
    """The path of a Unix socket."""
    plain = path(allowed)

    def read(value: object) -> Path | None:
        found: Path | None = plain.read(value)
        length = len(os.fsencode(found)) if found is not None else 0
        if length > MAX_SOCKET_PATH:
            raise ValueError(f"the path of a Unix socket has at most {MAX_SOCKET_PATH} bytes, this one has {length}")
        return found

    return replace(plain, read=read)


def file_mode() -> Kind:
    """The permission bits of a file, in octal digits as text."""

    def read(value: object) -> int:
        if not isinstance(value, str) or not re.fullmatch(r"(0o?)?[0-7]{3}", value):
            raise ValueError("not three octal digits in quotes")
        mode = int(value.removeprefix("0o"), 8)
        if mode & 0o600 != 0o600 or mode & 0o007:
            raise ValueError("the owner must be able to use it, and nobody outside the group")
        return mode

    return Kind(read, lambda value: f'"{value:04o}"', "octal", 'octal digits from "0600" to "0770"', "MODE")


def endpoint() -> Kind:
    """`host:port` with a literal IP address, or nothing."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError("not a text")
        if not value:
            return value
        host, colon, port = value.rpartition(":")
        if not colon or not port.isdecimal() or int(port) > 65535:
            raise ValueError("not host:port")
        try:
            ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            raise ValueError(f"{host!r} is not an IP address") from None
        return value

    return Kind(read, json.dumps, "", "empty, or an IP address and port such as 127.0.0.1:4748", "HOST:PORT")


def port_or_endpoint() -> Kind:
    """A port of loopback, or `host:port` with a literal address; or nothing. Read as `host:port`."""

    def read(value: object) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise ValueError("not a text")
        if not value:
            return value
        host, colon, port = value.rpartition(":")
        if not port.isascii() or not port.isdecimal() or int(port) > 65535:
            raise ValueError("not a port, and not host:port")
        if not colon:
            return f"127.0.0.1:{int(port)}"
        if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
            raise ValueError("an IPv6 address needs brackets before the port: [::1]:9464")
        try:
            address = ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            raise ValueError(
                f"{host!r} is not an IP address; for all addresses write 0.0.0.0 or [::], for loopback only the port"
            ) from None
        return f"[{address}]:{int(port)}" if address.version == 6 else f"{address}:{int(port)}"

    allowed = "empty, a port such as 9464 (on 127.0.0.1), or an address and a port such as 0.0.0.0:9464"
    return Kind(read, json.dumps, "", allowed, "[HOST:]PORT")


LOG_LEVELS = ("debug", "info", "warning", "error")


def name_servers() -> Kind:
    """A list of name servers, each an IP address with or without a port; read as (address, port)."""

    def one(word: str) -> tuple[str, int]:
        host, port = word, "53"
        if word.startswith("[") or word.count(":") == 1:
            host, _, port = word.rpartition(":")
        try:
            address = str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
        except ValueError:
            raise ValueError(f"{word} is no IP address, with or without a port behind it") from None
        if not (port.isascii() and port.isdecimal() and 0 < int(port) <= 65535):
            raise ValueError(f"{word} has a port that is not a number from 1 to 65535")
        return address, int(port)

    def write(server: tuple[str, int]) -> str:
        host, port = server
        if port == 53:
            return host
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    return _distinct(
        one, "IP addresses such as 192.0.2.53 or [2001:db8::53]:5353; as text separated by commas", "SERVER", write
    )


def log_levels() -> Kind:
    """A list of `part=level`; as text separated by commas."""

    def one(word: str) -> str:
        part, _, level = word.partition("=")
        if level not in LOG_LEVELS or not re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", part):
            raise ValueError(f"{word!r} is not part=level, the level one of {', '.join(LOG_LEVELS)}")
        return word

    allowed = f"part=level, the level one of {', '.join(LOG_LEVELS)}; as text separated by commas"
    return _named("part", one, lambda word: word.partition("=")[0], str, allowed, "PART=LEVEL")


def multiaddrs(*, listening: bool = False, dialled: bool = False, announced: bool = False, relay: bool = False) -> Kind:
    """A list of multiaddrs; as text separated by commas or blanks.

    `listening`: only TCP ports of IP addresses, WebSocket included. `dialled`: each must be one that can be dialled, a
    `/dnsaddr` name included, or end in `/p2p/<peer id>`. `announced`: each must be one that others can dial.
    `relay`: each must be one that can be dialled, and end in `/p2p/<peer id>`.
    """

    def one(word: str) -> Multiaddr:
        address = Multiaddr.from_text(word)
        if dialled and address.peer_id is None and address.endpoint() is None and address.dnsaddr is None:
            raise ValueError(f"{word} is no TCP or WebSocket address, and does not end in /p2p/<peer id>")
        if listening and not _can_listen(address):
            raise ValueError(f"{word} is not /ip4/.../tcp/... or /ip6/.../tcp/..., with or without /ws or /tls/ws")
        if relay and (address.peer_id is None or address.is_relayed):
            raise ValueError(
                f"{word} is no relay's address: it does not end in /p2p/<peer id>, or leads through a relay"
            )
        if announced:
            _check_announced(word, address)
        if announced or dialled or relay:
            _check_names(word, address)
        return address

    such_as = "/ip4/192.0.2.1/tcp/4747"
    if relay:
        such_as = "/ip4/192.0.2.1/tcp/4747/p2p/<peer id>"
    elif dialled:
        such_as = "/ip4/192.0.2.1/tcp/4747/p2p/<peer id> or /dns4/name/tcp/4747"
    return _distinct(one, f"multiaddrs such as {such_as}; as text separated by commas", "MULTIADDR")


def _check_announced(word: str, address: Multiaddr) -> None:
    """Raises ValueError for an address that nobody could reach this node at."""
    if address.value("p2p-circuit") is not None:
        raise ValueError(f"{word} leads through a relay: name that in relay.relays, and this is announced by itself")
    endpoint = address.endpoint()
    if endpoint is None:
        raise ValueError(f"{word} is no TCP or WebSocket address, and this node has no other transport")
    if endpoint.port == 0:
        raise ValueError(f"{word} has port 0, which nobody can dial: name the port that leads to this node")
    if endpoint.kind in ("ip4", "ip6"):
        ip = ipaddress.ip_address(endpoint.host)
        if ip.is_unspecified:
            raise ValueError(f"{word} stands for all addresses of a host, which nobody can dial: name one")
        if ip.is_multicast or endpoint.host == "255.255.255.255":
            raise ValueError(f"{word} is not the address of one host, which nobody can dial")


_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)


def _check_names(word: str, address: Multiaddr) -> None:
    """Raises ValueError where a DNS name in the address cannot be one (RFC 1035, and the _ that is in use)."""
    for part, name in address.parts:
        if part not in ("dns", "dns4", "dns6", "dnsaddr", "sni"):
            continue
        try:
            plain = name if name.isascii() else name.encode("idna").decode()
        except UnicodeError:
            plain = ""
        plain = plain.removesuffix(".")
        if len(plain) > 253 or not all(_LABEL.fullmatch(label) for label in plain.split(".")):
            raise ValueError(
                f"{word}: {name!r} is no DNS name: labels of 1 to 63 letters, digits, '-' and '_' with dots between "
                "them, 253 characters at most, no '-' at either end of a label"
            )


def _can_listen(address: Multiaddr) -> bool:
    endpoint = address.endpoint()
    if endpoint is None or address.value("tcp") is None or address.peer_id is not None:
        return False
    return endpoint.kind in ("ip4", "ip6") and endpoint.sni is None


def peer_ids() -> Kind:
    """A list of peer ids; as text separated by commas or blanks."""
    return _distinct(PeerId.from_text, "peer ids such as 12D3KooW...; as text separated by commas", "PEER")


def networks() -> Kind:
    """A list of IP addresses and networks; as text separated by commas or blanks."""
    allowed = "IP addresses and networks such as 192.0.2.7 or 2001:db8::/32; as text separated by commas"
    return _distinct(Network.from_text, allowed, "CIDR")


def namespaces() -> Kind:
    """A list of `name=rule` or `name=rule:refuse_prefix=text`; as text separated by commas."""

    def one(word: str) -> Namespace:
        found = re.fullmatch(r"([A-Za-z0-9._-]{1,64})=([a-z]+)(?::refuse_prefix=(.+))?", word)
        if found is None:
            raise ValueError(f"{word!r} is not name=rule or name=rule:refuse_prefix=text")
        try:
            rule = Rule(found[2])
        except ValueError:
            raise ValueError(f"{found[2]!r} is none of the rules {', '.join(rule.value for rule in Rule)}") from None
        return Namespace(found[1], rule, (found[3] or "").encode())

    def write(namespace: Namespace) -> str:
        name, rule, prefix = namespace
        return f"{name}={rule.value}" + (f":refuse_prefix={prefix.decode()}" if prefix else "")

    allowed = (
        "name=rule, the rule pk, signed or greatest; may go on with :refuse_prefix=text; as text separated by commas"
    )
    return _named("namespace", one, lambda namespace: namespace.name, write, allowed, "NAMESPACE")


def names(most: int, longest: int) -> Kind:
    """A list of at most so many names, each of at most so many bytes; as text separated by commas."""

    def one(word: str) -> str:
        if not word:
            raise ValueError("a name is empty")
        if len(word.encode()) > longest:
            raise ValueError(f"a name of {len(word.encode())} bytes, at most {longest}")
        return word

    def read(value: object) -> tuple[str, ...]:
        found: tuple[str, ...] = named.read(value)
        if len(found) > most:
            raise ValueError(f"{len(found)} names, at most {most}")
        return found

    allowed = f"at most {most} names of at most {longest:,} bytes; as text separated by commas"
    named = _named("name", one, str, str, allowed, "NAME")
    return replace(named, read=read)


def rates() -> Kind:
    """A list of `topic=messages a second`; as text separated by commas."""

    def one(word: str) -> tuple[str, float]:
        topic, _, rate = word.rpartition("=")
        if not topic:
            raise ValueError(f"{word!r} is not topic=messages a second")
        try:
            value = float(rate)
        except ValueError:
            raise ValueError(f"{rate!r} is not a number of messages a second") from None
        return topic, _between(value, 1e-6, 1e6)

    allowed = "topic=messages a second, such as blocks=0.1; as text separated by commas"
    return _named("topic", one, lambda rate: rate[0], lambda rate: f"{rate[0]}={rate[1]:.15g}", allowed, "TOPIC=RATE")


def bundlings() -> Kind:
    """A list of `topic=off`, `topic=known` or `topic=always`, topics with `*` for any text; as text, commas between."""
    words = tuple(choice.value for choice in Bundling)

    def one(word: str) -> tuple[str, str]:
        topic, _, bundling = word.rpartition("=")
        if not topic or bundling not in words:
            raise ValueError(f"{word!r} is not topic=off, topic=known or topic=always")
        return topic, bundling

    def read(value: object) -> tuple[tuple[str, str], ...]:
        found: tuple[tuple[str, str], ...] = named.read(value)
        if len(found) > MAX_PATTERNS:
            raise ValueError(f"{len(found)} topics, at most {MAX_PATTERNS}")
        return found

    allowed = "topic=off, topic=known or topic=always, * in a topic for any text; as text separated by commas"
    named = _named("topic", one, lambda each: each[0], lambda each: f"{each[0]}={each[1]}", allowed, "TOPIC=BUNDLING")
    return replace(named, read=read)


def fallbacks() -> Kind:
    """A list of `topic=accept`, `topic=ignore` or `topic=hold`; as text separated by commas."""

    def one(word: str) -> tuple[str, str]:
        topic, _, fallback = word.rpartition("=")
        if not topic or fallback not in ("accept", "ignore", "hold"):
            raise ValueError(f"{word!r} is not topic=accept, topic=ignore or topic=hold")
        return topic, fallback

    allowed = "topic=accept, topic=ignore or topic=hold; as text separated by commas"
    return _named("topic", one, lambda each: each[0], lambda each: f"{each[0]}={each[1]}", allowed, "TOPIC=FALLBACK")


def _distinct(one: Callable[[str], Any], allowed: str, placeholder: str, write: Callable[[Any], str] = str) -> Kind:
    """A list of values that `one` makes of texts without blanks, each value once."""

    def read(value: object) -> tuple[Any, ...]:
        words = value.replace(",", " ").split() if isinstance(value, str) else value
        return tuple(dict.fromkeys(_each(one, words)))

    return _list(read, write, allowed, placeholder)


def _named(
    what: str,
    one: Callable[[str], Item],
    name: Callable[[Item], str],
    write: Callable[[Item], str],
    allowed: str,
    placeholder: str,
) -> Kind:
    """A list of values that `one` makes of texts, none with the name of another."""

    def read(value: object) -> tuple[Item, ...]:
        words = [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value
        items = tuple(_each(one, words))
        if len({name(item) for item in items}) < len(items):
            raise ValueError(f"a {what} is named twice")
        return items

    return _list(read, write, allowed, placeholder)


def _each(one: Callable[[str], Item], words: object) -> Iterator[Item]:
    """What `one` makes of each text of a list."""
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("not a list of texts")
    for word in words:
        _check_unicode(word)
        yield one(word)


def _list(
    read: Callable[[object], tuple[Item, ...]], write: Callable[[Item], str], allowed: str, placeholder: str
) -> Kind:
    return Kind(read, lambda value: json.dumps([write(item) for item in value]), "", allowed, placeholder, many=True)


def write_size(value: int) -> str:
    """Bytes in the largest binary unit that divides them."""
    for suffix, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value and value % factor == 0:
            return f"{value // factor}{suffix}"
    return str(value)


def _check_unicode(value: str) -> None:
    """Bytes that are no text come from the environment and from arguments. Raises ValueError."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("it has bytes that are not UTF-8") from None


def _quantity(value: str, factors: Mapping[str, float], units: str) -> float:
    found = _QUANTITY.fullmatch(value.strip())
    factor = factors.get(found[2].upper()) if found else None
    if found is None or factor is None:
        raise ValueError(f"not a number with or without {units} behind it")
    return float(found[1]) * factor


def _between(value: _Number, low: _Number, high: _Number) -> _Number:
    if not low <= value <= high:
        raise ValueError("below the least allowed" if value < low else "above the most allowed")
    return value
