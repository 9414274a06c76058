"""What SQLite asks of the disk, seen and changed below the `sqlite3` module: a VFS around the default one, by ctypes.

The `sqlite3` module takes no VFS, but the library that it has loaded does: a structure of function pointers, registered
as the default. So the connections that are tested are those of the product, opened by its own code; no compiler, no
package and no root is needed, and what is written is known exactly, with each fsync. Other ways were weighed: the
package APSW would test its connections in place of ours, a library by LD_PRELOAD takes a compiler and sees descriptors
rather than files, FUSE takes a device and rights, and copies of the files at each commit do not know what was fsynced.

Where the module is linked so that the library's names cannot be found, `why_not` says so, and tests are skipped.
"""

import contextlib
import ctypes
import functools
import sqlite3
from collections.abc import Callable, Iterator
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int64, c_void_p
from typing import Any, NamedTuple

OK, READONLY, IOERR, FULL = 0, 8, 10, 13
DONE = -1  # of `Below`: it is as good as done, do not do it

_OPEN_MAIN, _OPEN_JOURNALS = 0x100, 0x800 | 0x4000 | 0x80000  # main database; rollback journals and logs
_CREATE = 0x4


class Asked(NamedTuple):
    """One thing that SQLite wants of the disk. `kind`: open, write, truncate, sync or delete."""

    kind: str
    path: str
    offset: int = 0  # of a truncation: the new size
    data: bytes = b""
    journal: bool = False
    """Of `open`: a rollback journal or a log, whose directory is synced with it for the first time."""


Below = Callable[[Asked], int]
"""Is asked before each thing is done: OK to go on, DONE, or what SQLite is told in place of it."""

_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_Delete = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)
_Close = CFUNCTYPE(c_int, c_void_p)
_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)


class _Vfs(ctypes.Structure):
    """struct sqlite3_vfs, version 3."""

    _fields_ = (
        ("version", c_int),
        ("file_size", c_int),
        ("max_path", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", c_void_p),
        ("delete", c_void_p),
        ("others", c_void_p * 14),
    )


class _Methods(ctypes.Structure):
    """struct sqlite3_io_methods, version 3."""

    _fields_ = (
        ("version", c_int),
        ("close", c_void_p),
        ("read", c_void_p),
        ("write", c_void_p),
        ("truncate", c_void_p),
        ("sync", c_void_p),
        ("others", c_void_p * 13),
    )


class _File(ctypes.Structure):
    """struct sqlite3_file: what follows belongs to its VFS."""

    _fields_ = (("methods", POINTER(_Methods)),)


@functools.cache
def _library() -> ctypes.CDLL:
    """The SQLite that the `sqlite3` module uses. Raises OSError."""
    import _sqlite3

    for name in (getattr(_sqlite3, "__file__", None), None):  # built in, it is a part of the program
        library = ctypes.CDLL(name)  # names are looked for in what it is linked with as well
        try:
            find, register, version = (
                library.sqlite3_vfs_find,
                library.sqlite3_vfs_register,
                library.sqlite3_libversion,
            )
        except AttributeError:
            continue
        version.restype = c_char_p
        if version() != sqlite3.sqlite_version.encode():
            continue
        find.argtypes, find.restype = (c_char_p,), POINTER(_Vfs)
        register.argtypes = library.sqlite3_vfs_unregister.argtypes = (POINTER(_Vfs), c_int)
        library.sqlite3_vfs_unregister.argtypes = (POINTER(_Vfs),)
        if library.sqlite3_vfs_find(None).contents.version >= 1:
            return library
    raise OSError("the sqlite3 module is linked so that the functions of its library cannot be found")


def why_not() -> str:
    """Why this cannot be had here; empty where it can."""
    try:
        _library()
    except OSError as error:
        return str(error)
    return ""


class _Interposed:
    """The VFS, and what is open by it."""

    def __init__(self, below: Below) -> None:
        self._below = below
        self._base = _library().sqlite3_vfs_find(None)
        self._paths: dict[int, str] = {}  # by the address of the file's structure
        self._tables: dict[int, tuple[_Methods, Any]] = {}  # ours, by the address of the original
        self._originals: dict[int, _Methods] = {}  # by the address of the file's structure
        self._callbacks = (_Open(self._open), _Delete(self._delete))
        self._file_callbacks = (
            _Close(self._close),
            _Write(self._write),
            _Truncate(self._truncate),
            _Sync(self._sync),
        )
        self.vfs = _Vfs.from_buffer_copy(self._base.contents)
        self.vfs.name, self.vfs.next = b"below", None
        self.vfs.open, self.vfs.delete = (ctypes.cast(callback, c_void_p).value for callback in self._callbacks)

    def _open(self, vfs: int, name: int | None, file: int, flags: int, out: int | None) -> int:
        path = ctypes.string_at(name).decode() if name else ""
        kept = bool(path) and bool(flags & (_OPEN_MAIN | _OPEN_JOURNALS))
        if kept and flags & _CREATE:
            code = self._below(Asked("open", path, journal=bool(flags & _OPEN_JOURNALS)))
            if code > OK:
                ctypes.memset(file, 0, ctypes.sizeof(_File))
                return code
        code = _Open(self._base.contents.open)(ctypes.addressof(self._base.contents), name, file, flags, out)
        if code == OK and kept:
            structure = _File.from_address(file)
            original = structure.methods.contents
            self._paths[file] = path
            self._originals[file] = original
            structure.methods = ctypes.pointer(self._table(original))
        return int(code)

    def _table(self, original: _Methods) -> _Methods:
        address = ctypes.addressof(original)
        if address not in self._tables:
            table = _Methods.from_buffer_copy(original)
            table.close, table.write, table.truncate, table.sync = (
                ctypes.cast(callback, c_void_p).value for callback in self._file_callbacks
            )
            self._tables[address] = table, original
        return self._tables[address][0]

    def _delete(self, vfs: int, name: bytes, sync_directory: int) -> int:
        code = self._below(Asked("delete", name.decode()))
        if code:
            return max(code, OK)
        return int(_Delete(self._base.contents.delete)(ctypes.addressof(self._base.contents), name, sync_directory))

    def _close(self, file: int) -> int:
        self._paths.pop(file, None)
        return int(_Close(self._originals.pop(file).close)(file))

    def _write(self, file: int, data: int, size: int, offset: int) -> int:
        code = self._below(Asked("write", self._paths[file], offset, ctypes.string_at(data, size)))
        return max(code, OK) if code else int(_Write(self._originals[file].write)(file, data, size, offset))

    def _truncate(self, file: int, size: int) -> int:
        code = self._below(Asked("truncate", self._paths[file], size))
        return max(code, OK) if code else int(_Truncate(self._originals[file].truncate)(file, size))

    def _sync(self, file: int, flags: int) -> int:
        code = self._below(Asked("sync", self._paths[file]))
        return max(code, OK) if code else int(_Sync(self._originals[file].sync)(file, flags))


_kept: list[_Interposed] = []  # a connection may outlast the block, and calls into it


@contextlib.contextmanager
def interposed(below: Below) -> Iterator[None]:
    """While it lasts, databases that are opened go by `below`, which may be called by any thread and raises nothing."""
    library = _library()
    ours = _Interposed(below)
    _kept.append(ours)
    base = library.sqlite3_vfs_find(None)
    library.sqlite3_vfs_register(ctypes.byref(ours.vfs), 1)
    try:
        yield
    finally:
        library.sqlite3_vfs_register(base, 1)
        library.sqlite3_vfs_unregister(ctypes.byref(ours.vfs))
