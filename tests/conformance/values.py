"""The runner's side of the values on the lines: payloads made and shown, variables put in, answers compared."""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

INLINE = 1024  # bytes of a payload that agents show in full
PAYLOADS = {"data", "value", "key", "cursor", "until"}  # fields that a scenario writes as text, or as seed and size


class WrongScenario(Exception):
    """A scenario says what nobody understands."""


def generated(seed: str, number: int, size: int) -> bytes:
    """The payload of that number; README.md says how it is made."""
    return hashlib.shake_128(f"{seed}/{number}".encode()).digest(size)


def digest(items: Iterable[bytes]) -> str:
    whole = hashlib.sha256()
    for item in items:
        whole.update(len(item).to_bytes(4, "big") + item)
    return whole.hexdigest()


def shown(data: bytes) -> Any:
    """A payload as agents show it."""
    if len(data) <= INLINE:
        return base64.b64encode(data).decode()
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


# ------------------------------------------------------------ variables


def resolved(given: Any, variables: Mapping[str, Any]) -> Any:
    """`given` with `$name.path` and `${name.path}` put in, and `{sum: [...]}` added up."""
    if isinstance(given, str):
        whole = re.fullmatch(r"\$([\w.@-]+)", given)
        if whole:
            return _looked_up(whole[1], variables)
        return re.sub(r"\$\{([^}]+)\}", lambda found: str(_looked_up(found[1], variables)), given)
    if isinstance(given, list):
        return [resolved(item, variables) for item in given]
    if isinstance(given, dict):
        if given.keys() == {"sum"}:
            return sum(resolved(given["sum"], variables))
        return {key: resolved(value, variables) for key, value in given.items()}
    return given


def _looked_up(path: str, variables: Mapping[str, Any]) -> Any:
    found: Any = variables
    for part in path.split("."):
        try:
            found = found[int(part)] if isinstance(found, list) else found[part]
        except (KeyError, IndexError, ValueError, TypeError):
            raise WrongScenario(f"${path}: there is no {part!r}") from None
    return found


# ------------------------------------------------------------ toward the agent


def encoded(fields: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """An operation's fields for the agent: texts in the fields of payloads become base64."""
    request = {}
    for name, given in fields.items():
        if name == "messages":
            request[name] = [_payload(item, variables) for item in given]
        else:
            request[name] = _payload(given, variables) if name in PAYLOADS else resolved(given, variables)
    return request


def _payload(given: Any, variables: Mapping[str, Any]) -> Any:
    value = resolved(given, variables)
    if not isinstance(value, str) or (isinstance(given, str) and re.fullmatch(r"\$[\w.@-]+", given)):
        return value  # made from a seed, or what an agent has shown, which is base64 already
    return base64.b64encode(value.encode()).decode()


# ------------------------------------------------------------ what is expected


def expected(given: Any, variables: Mapping[str, Any]) -> Any:
    """An expectation with its variables put in, and payloads and runs replaced by what agents show of them."""
    if isinstance(given, list):
        return [expected(item, variables) for item in given]
    if isinstance(given, dict) and given.keys() != {"sum"}:
        return {name: _expected_field(name, value, variables) for name, value in given.items()}
    return resolved(given, variables)


def _expected_field(name: str, given: Any, variables: Mapping[str, Any]) -> Any:
    if name in ("data", "value"):
        value = resolved(given, variables)
        if isinstance(value, dict) and value.keys() == {"seed", "size"}:
            return shown(generated(value["seed"], 0, value["size"]))
        if isinstance(value, dict) and "run" in value:
            return shown(b"".join(_run(value["run"])))
        if isinstance(given, str) and not re.fullmatch(r"\$[\w.@-]+", given):
            return shown(value.encode())
        return value
    if name == "digest" and isinstance(given, dict):
        return digest(_run(resolved(given, variables)))
    return expected(given, variables)


def _run(run: Mapping[str, Any]) -> Iterable[bytes]:
    return (generated(run["seed"], number, run["size"]) for number in range(run["count"]))


def differences(want: Any, found: Any, at: str = "answer") -> list[str]:
    """What of an answer is not as expected. Fields that the expectation does not name are not looked at."""
    if isinstance(want, dict):
        if len(want) == 1 and (check := _CHECKS.get(next(iter(want)))) is not None:
            return check(next(iter(want.values())), found, at)
        if not isinstance(found, dict):
            return [f"{at} is {_short(found)}, not {_short(want)}"]
        missing = [f"{at} has no {name}" for name in want if name not in found]
        return missing + [
            line for name in want if name in found for line in differences(want[name], found[name], f"{at}.{name}")
        ]
    if isinstance(want, list):
        if not isinstance(found, list) or len(want) != len(found):
            length = f"{len(found)} items" if isinstance(found, list) else "no list"
            return [f"{at} has {length}, not {len(want)}: {_short(found)}"]
        pairs = enumerate(zip(want, found, strict=True))
        return [line for number, pair in pairs for line in differences(*pair, f"{at}.{number}")]
    if want != found or isinstance(want, bool) is not isinstance(found, bool):
        return [f"{at} is {_short(found)}, not {_short(want)}"]
    return []


def _at_least(want: Any, found: Any, at: str) -> list[str]:
    fine = isinstance(found, int | float) and found >= want
    return [] if fine else [f"{at} is {_short(found)}, not at least {want}"]


def _at_most(want: Any, found: Any, at: str) -> list[str]:
    fine = isinstance(found, int | float) and found <= want
    return [] if fine else [f"{at} is {_short(found)}, not at most {want}"]


def _length(want: Any, found: Any, at: str) -> list[str]:
    fine = isinstance(found, list | str | dict) and not differences(want, len(found))
    return [] if fine else [f"{at} has another length than {want}: {_short(found)}"]


def _contains(want: Any, found: Any, at: str) -> list[str]:
    if isinstance(found, list):
        fine = any(not differences(want, item) for item in found)
    else:
        fine = isinstance(found, str) and isinstance(want, str) and want in found
    return [] if fine else [f"{at} does not contain {_short(want)}: {_short(found)}"]


def _lacks(want: Any, found: Any, at: str) -> list[str]:
    return [] if _contains(want, found, at) else [f"{at} contains {_short(want)}: {_short(found)}"]


def _one_of(want: Any, found: Any, at: str) -> list[str]:
    fine = any(not differences(item, found) for item in want)
    return [] if fine else [f"{at} is {_short(found)}, none of {_short(want)}"]


def _some(want: Any, found: Any, at: str) -> list[str]:
    return [] if bool(found) is want else [f"{at} is {_short(found)}, but should {'' if want else 'not '}be something"]


_CHECKS = {
    "at least": _at_least,
    "at most": _at_most,
    "length": _length,
    "contains": _contains,
    "lacks": _lacks,
    "one of": _one_of,
    "some": _some,
}
CHECKS = frozenset(_CHECKS)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}... ({len(text)} characters)"
