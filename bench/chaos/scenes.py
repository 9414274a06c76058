"""All scenes, in the order of the table."""

from bench.chaos import kill
from bench.chaos.scene import Scene

_ALL = [
    kill.SCENE,
]
SCENES: dict[str, Scene] = {scene.name: scene for scene in _ALL}
