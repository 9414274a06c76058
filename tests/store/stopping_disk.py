"""A disk that stops, loses what was not fsynced, or refuses, when it is told to: a model of the files, beside them.

A stop is the end of a process: nothing that is asked for from then on happens. What is there afterwards is made from
the model. After a kill that is all that was written. After a power cut it is what was fsynced and any part, in sectors,
of what was not, with any mixture of names that were made or deleted since their directory was last synced.
"""

import contextlib
import enum
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from .disk_below import DONE, IOERR, OK, Asked, interposed

_SECTOR = 512


class Left(enum.Enum):
    """What a stop leaves."""

    WRITTEN = "all that was written"
    TORN = "all that was written, and half of the write at which it stopped"
    SYNCED = "what was fsynced"
    SECTORS = "what was fsynced, and some sectors of the rest"
    TAIL = "what was fsynced, and all of the rest but some sectors, which are garbage"


POWER_CUTS = (Left.SYNCED, Left.SECTORS, Left.TAIL)


class _File:
    """`now` is what is written; `synced` what is on the disk for sure; `unsynced` what happened between."""

    def __init__(self, content: bytes = b"") -> None:
        self.now = bytearray(content)
        self.synced = bytes(content)
        self.unsynced: list[tuple[int, bytes | None]] = []  # None: truncated to so many bytes

    def write(self, offset: int, data: bytes) -> None:
        _put(self.now, offset, data)
        self.unsynced.append((offset, data))

    def truncate(self, size: int) -> None:
        del self.now[size:]
        self.unsynced.append((size, None))

    def sync(self) -> None:
        self.synced = bytes(self.now)
        self.unsynced.clear()

    def after_power_cut(self, left: Left, rng: random.Random) -> bytes:
        content = bytearray(self.synced)
        if left is Left.SYNCED:
            return bytes(content)
        for offset, data in self.unsynced:
            if data is None:
                if rng.random() < 0.5:
                    del content[offset:]
                continue
            for begin in range(0, len(data), _SECTOR):
                sector = data[begin : begin + _SECTOR]
                if left is Left.TAIL:
                    _put(content, offset + begin, sector if rng.random() < 0.9 else rng.randbytes(len(sector)))
                elif rng.random() < 0.5:
                    _put(content, offset + begin, sector)
        return bytes(content)


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class StoppingDisk:
    """The files of one folder. `count` is how many things were asked of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.stop_at: int | None = None
        self.refuse_at: int | None = None
        self.refuse_until = 0
        self.code = IOERR
        """What SQLite is told while it refuses."""
        self.stopped = False
        self.refused = False
        self.left = Left.WRITTEN
        """What a stop leaves."""
        self.rng = random.Random(1)
        self._names: dict[str, _File] = {}
        self._listed: dict[str, _File] = {}  # as the directory has it on the disk for sure
        self._new: dict[str, None] = {}  # their first sync is one of the directory
        self._torn: Asked | None = None

    def below(self, asked: Asked) -> int:
        """Take part in what SQLite asks of this folder."""
        if self.stopped:
            return IOERR
        if asked.kind == "open" and asked.path in self._names:
            return OK
        self.count += 1
        if self.count == self.stop_at:
            self.stopped = True
            self._torn = asked
            return IOERR
        if self.refuse_at is not None and self.refuse_at <= self.count < self.refuse_until:
            self.refused = True
            return self.code
        match asked.kind:
            case "open":
                self._names[asked.path] = _File()
                if asked.journal:
                    self._new[asked.path] = None
            case "write":
                self._names[asked.path].write(asked.offset, asked.data)
            case "truncate":
                self._names[asked.path].truncate(asked.offset)
            case "sync":
                self._names[asked.path].sync()
                if asked.path in self._new:
                    del self._new[asked.path]
                    self._listed = dict(self._names)
                return DONE
            case "delete":
                self._names.pop(asked.path, None)
                self._new.pop(asked.path, None)
        return OK

    def go_on(self) -> None:
        """Put there what the stop has left; the process is another one."""
        files = self._after_power_cut() if self.left in POWER_CUTS else self._after_kill()
        for file in self.folder.iterdir():
            file.unlink()
        for path, content in files.items():
            Path(path).write_bytes(content)
        self._names = {path: _File(content) for path, content in files.items()}
        self._listed = dict(self._names)
        self._new.clear()
        self._torn = None
        self.stopped = False

    def _after_kill(self) -> dict[str, bytes]:
        torn = self._torn
        if torn is not None and torn.kind == "write" and self.left is Left.TORN:
            self._names[torn.path].write(torn.offset, torn.data[: len(torn.data) // 2])
        return {path: bytes(file.now) for path, file in self._names.items()}

    def _after_power_cut(self) -> dict[str, bytes]:
        files: dict[str, bytes] = {}
        for path in self._names | self._listed:
            choices = [names.get(path) for names in (self._listed, self._names)]
            file = choices[0] if self.left is Left.SYNCED else self.rng.choice(choices)
            if file is not None:
                files[path] = file.after_power_cut(self.left, self.rng)
        return files


@contextlib.contextmanager
def stopping(folders: Sequence[Path]) -> Iterator[list[StoppingDisk]]:
    """Disks for databases in these folders, while it lasts."""
    disks = {str(folder): StoppingDisk(folder) for folder in folders}

    def below(asked: Asked) -> int:
        disk = disks.get(asked.path.rpartition("/")[0])
        return OK if disk is None else disk.below(asked)

    with interposed(below):
        yield list(disks.values())
