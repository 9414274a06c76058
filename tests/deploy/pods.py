"""Pods of the charts, played by `podman play kube`, in what it knows of Kubernetes.

podman 4.3 takes a native sidecar for an init container and waits for its end; it knows neither the pod's address nor
fsGroup nor $(VARIABLES), runs probes by a curl inside of the container, publishes every port on the host, and keeps an
emptyDir as a volume of that name for all pods. So the sidecar becomes an ordinary container, it announces its name or
where it listens, the app gets its group directly, tests ask at the probes' paths themselves, and volumes have names of
their own.
"""

import copy
import re
from pathlib import Path
from typing import Any

import yaml

from .engine import Container, Engine

NAMESPACE = "mesh"
SHORT = "sidecar-bootstrap"  # from within the namespace
SERVICE = f"{SHORT}.{NAMESPACE}.svc.cluster.local"


class Pods:
    """A network of its own, on which the headless service's name leads to each pod that serves it."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self._folder = folder
        self._network = engine.tag
        self._played: list[Path] = []
        engine("network", "create", self._network)

    def play(self, name: str, spec: Any, images: dict[str, str], *, service: str | None = None) -> "Pod":
        """Start a pod of this specification; `service`: a DNS name that leads to it, alone and behind its own."""
        name = f"{self.engine.tag}-{name}"
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": playable(name, spec, images)}
        file = self._folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(pod))
        self._played.append(file)
        network = self._network + (f":alias={service},alias={name}.{service},alias={SHORT}" if service else "")
        self.engine("play", "kube", "--network", network, str(file))
        return Pod(self.engine, name)

    def close(self) -> None:
        for file in self._played:
            self.engine("pod", "rm", "--force", "--time", "0", file.stem, check=False)
        for pod in self._played:
            for volume in yaml.safe_load(pod.read_text())["spec"]["volumes"]:
                self.engine("volume", "rm", "--force", volume["name"], check=False)
        self.engine("network", "rm", "--force", self._network, check=False)


class Pod:
    """One pod."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name
        self.sidecar = Container(engine, f"{name}-sidecar")

    def container(self, name: str) -> Container:
        return Container(self.engine, f"{self.name}-{name}")

    def stop(self) -> None:
        self.engine("pod", "stop", "--time", "20", self.name)


def playable(name: str, spec: Any, images: dict[str, str]) -> Any:
    """The specification without what podman does not know."""
    spec = copy.deepcopy(spec)
    group = spec["securityContext"].get("fsGroup")
    spec["containers"] = [*spec.pop("initContainers", []), *spec["containers"]]
    for container in spec["containers"]:
        for unknown in ("restartPolicy", "startupProbe", "livenessProbe", "readinessProbe", "ports"):
            container.pop(unknown, None)
        for mount in container["volumeMounts"]:
            mount["name"] = f"{name}-{mount['name']}"
        container["image"] = images[container["image"]]
        container["imagePullPolicy"] = "Never"
        container["securityContext"]["runAsGroup"] = group
        container["env"] = [
            entry for entry in container["env"] if not re.search("POD_IP|metadata.namespace", str(entry))
        ]
        for entry in container["env"]:
            if "value" in entry:
                entry["value"] = entry["value"].replace("$(POD_NAME)", name).replace("$(POD_NAMESPACE)", NAMESPACE)
    for volume in spec["volumes"]:
        volume["name"] = f"{name}-{volume['name']}"
        volume["emptyDir"] = {}
    spec.setdefault("restartPolicy", "Never")
    return spec
