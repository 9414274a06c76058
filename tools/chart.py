"""Write what the chart says of itself: the table of its README and its values' schema, from values.yaml and the keys.

`python tools/chart.py` writes both, and copies what the chart holds of deploy/monitoring; `make docs` runs it.
`readme(text)` and `schema()` are what tests compare.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from sidecar.config.schema import KEYS

CHART = Path(__file__).parents[1] / "deploy" / "helm" / "sidecar"
MONITORING = CHART.parents[1] / "monitoring"
COPIED = ("alerts.yaml", "dashboard.json")  # a chart can hold only files of its own folder
BEGIN, END = "<!-- values: made by `make docs` -->\n", "<!-- end of values -->\n"

# Keys that other values of the chart set, or that make no sense in a pod.
SET_BY_THE_CHART = {
    "network.name",
    "network.psk_file",
    "listen.addresses",
    "listen.announce",
    "bootstrap.peers",
    "state.directory",
    "state.identity_file",
    "api.socket",
    "api.tokens",
    "api.require_token",
    "api.mode",
    "api.owner",
    "api.group",
    "metrics.listen",
}

_TEXT: dict[str, Any] = {"type": "string"}
_NAME = {"type": "string", "pattern": "^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$", "maxLength": 253}
_FLAG = {"type": "boolean"}
_COUNT = {"type": "integer", "minimum": 1}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
_TEXTS = {"type": "array", "items": _TEXT}
_OBJECT = {"type": "object"}  # of Kubernetes: checked by the API server
_OBJECTS = {"type": "array", "items": _OBJECT}
_MAP = {"type": "object", "additionalProperties": _TEXT}
_QUANTITY = {"type": ["string", "number"], "pattern": "^[0-9.]+([EPTGMk]i?|m)?$"}
_QUANTITIES = {"type": "object", "additionalProperties": _QUANTITY}
# What is not listed takes its type from the default: text, flag, number.
_SPECIAL: dict[str, dict[str, Any]] = {
    "nameOverride": _NAME,
    "fullnameOverride": _NAME,
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.repository": {"type": "string", "minLength": 1},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "image.pullSecrets": {"type": "array", "items": _NAME},
    "network.name": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    "network.pskSecret": _NAME,
    "network.port": _PORT,
    "network.ipFamily": {"enum": ["IPv4", "IPv6"]},
    "network.clusterDomain": {**_NAME, "minLength": 1},
    "network.bootstrapPeers": {"type": "array", "items": {"type": "string", "pattern": "^/"}},
    "metrics.port": _PORT,
    "metrics.interval": {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"},
    "metrics.labels": _MAP,
    "metrics.dashboard.labels": _MAP,
    "probes.periodSeconds": _COUNT,
    "probes.failureThreshold": _COUNT,
    "beside.socketMode": {"type": "string", "pattern": "^0[67][0-7]0$"},
    "beside.identitySecret": _NAME,
    "beside.stateClaim": _NAME,
    "beside.tokensSecret": _NAME,
    "beside.env": _OBJECTS,
    "bootstrap.replicas": _COUNT,
    "bootstrap.identitySecret": _NAME,
    "bootstrap.persistence.size": _QUANTITY,
    "bootstrap.persistence.accessModes": {
        "type": "array",
        "minItems": 1,
        "items": {"enum": ["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"]},
    },
    "bootstrap.terminationGracePeriodSeconds": _COUNT,
    "bootstrap.env": _OBJECTS,
    "bootstrap.podAnnotations": _MAP,
    "bootstrap.podLabels": _MAP,
    "bootstrap.serviceAnnotations": _MAP,
    "bootstrap.nodeSelector": _MAP,
    "bootstrap.tolerations": _OBJECTS,
    "bootstrap.affinity": _OBJECT,
    "bootstrap.topologySpreadConstraints": _OBJECTS,
    "bootstrap.podDisruptionBudget.maxUnavailable": {
        "oneOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+%$"}]
    },
    "serviceAccount.name": _NAME,
    "serviceAccount.annotations": _MAP,
    "networkPolicy.from": _OBJECTS,
    "networkPolicy.metricsFrom": _OBJECTS,
}
_RESOURCES = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"requests": _QUANTITIES, "limits": _QUANTITIES},
}


def values() -> dict[str, Any]:
    """The chart's defaults."""
    read: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return read


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value that a user sets, by its path; those that hold things of Kubernetes or keys of ours as a whole."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and value and name not in ("resources", "labels"):
            found.update(leaves(value, f"{path}."))
        else:
            found[path] = value
    return found


def comments() -> dict[str, str]:
    """The comment above each value of values.yaml, by the value's path."""
    found: dict[str, str] = {}
    above: list[str] = []
    path: list[str] = []
    for line in (CHART / "values.yaml").read_text().splitlines():
        named = re.match(r"( *)([A-Za-z]+):", line)
        if line.lstrip().startswith("#"):
            above.append(line.strip().lstrip("# "))
        elif named is None:
            above = []
        else:
            path = [*path[: len(named[1]) // 2], named[2]]
            if above:
                found[".".join(path)] = " ".join(above)
            above = []
    return found


def table() -> str:
    """The table of values in the chart's README."""
    said = comments()
    rows = ["| value | default | what it is |", "|---|---|---|"]
    for path, default in leaves(values()).items():
        rows.append(f"| `{path}` | `{json.dumps(default)}` | {said[path]} |")
    return "\n".join(rows) + "\n"


def readme(text: str) -> str:
    """The README with its table as it is now."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n" + table() + "\n" + END + rest.partition(END)[2]


def schema() -> str:
    """`values.schema.json`."""
    root = _object(values())
    root["properties"]["config"] = _config()
    root["properties"]["global"] = _OBJECT  # Helm hands it to every chart that is a part of another one
    for place in ("beside", "bootstrap"):
        root["properties"][place]["properties"]["resources"] = _RESOURCES
    document = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the sidecar's chart", **root}
    return json.dumps(document, indent=2) + "\n"


def _object(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    properties = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        if path in _SPECIAL:
            properties[name] = _SPECIAL[path]
        elif isinstance(value, dict):
            properties[name] = _object(value, f"{path}.")
        else:
            properties[name] = {bool: _FLAG, str: _TEXT}[type(value)]
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _config() -> dict[str, Any]:
    """The keys of the sidecar by section; their values are checked by the sidecar at its start."""
    scalar = {"type": ["string", "number", "boolean"]}
    sections: dict[str, Any] = {}
    for key in KEYS.values():
        if key.full_name not in SET_BY_THE_CHART:
            section = sections.setdefault(
                key.section, {"type": "object", "additionalProperties": False, "properties": {}}
            )
            section["properties"][key.name] = {"oneOf": [scalar, _TEXTS]} if key.kind.many else scalar
    return {"type": "object", "additionalProperties": False, "properties": sections}


if __name__ == "__main__":
    file = CHART / "README.md"
    file.write_text(readme(file.read_text()))
    (CHART / "values.schema.json").write_text(schema())
    (CHART / "files").mkdir(exist_ok=True)
    for name in COPIED:
        (CHART / "files" / name).write_text((MONITORING / name).read_text())
