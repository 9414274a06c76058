"""All scenes, in the order of the table."""

from bench.chaos import clock, damage, disk, kill, partition, rolling, stopped, stops, upgrade
from bench.chaos.scene import Scene

_ALL = [
    kill.SCENE,
    clock.SCENE,
    rolling.SCENE,
    upgrade.SCENE,
    stopped.SCENE,
    partition.SCENE,
    stops.SCENE,
    disk.FULL_SCENE,
    disk.READ_ONLY_SCENE,
    disk.SLOW_SCENE,
    damage.SCENE,
]
SCENES: dict[str, Scene] = {scene.name: scene for scene in _ALL}
