"""All scenes, in the order of the table."""

from bench.chaos import clock, kill, partition, rolling, stopped
from bench.chaos.scene import Scene

_ALL = [
    kill.SCENE,
    clock.SCENE,
    rolling.SCENE,
    stopped.SCENE,
    partition.SCENE,
]
SCENES: dict[str, Scene] = {scene.name: scene for scene in _ALL}
