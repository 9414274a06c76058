"""All scenes, in the order of the table."""

from bench.chaos import clock, kill, partition, rolling, stopped, upgrade
from bench.chaos.scene import Scene

_ALL = [
    kill.SCENE,
    clock.SCENE,
    rolling.SCENE,
    upgrade.SCENE,
    stopped.SCENE,
    partition.SCENE,
]
SCENES: dict[str, Scene] = {scene.name: scene for scene in _ALL}
