"""Network namespaces without names: the kernel takes each away with the last process or descriptor that holds it.

So nothing is left of them, however a program ends, SIGKILL included. Linux, with the right to make them.
"""

import contextlib
import ctypes
import fcntl
import os
import struct
from collections.abc import Iterator

_NEWNET = 0x40000000  # CLONE_NEWNET
_TUNSETIFF, _TUN, _WITHOUT_INFO = 0x400454CA, 0x0001, 0x1000
RIGHTS = "it takes root, or CAP_SYS_ADMIN and CAP_NET_ADMIN"


class LabUnavailable(Exception):
    """This machine or user cannot have such a network; a sentence."""


@contextlib.contextmanager
def new_namespace() -> Iterator[int]:
    """This thread is in a new namespace, whose descriptor is given, and comes back. Raises LabUnavailable."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        try:
            _call("unshare", _NEWNET)
        except OSError as error:
            raise LabUnavailable(f"a network namespace cannot be made: {error.strerror}; {RIGHTS}") from None
        try:
            yield os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        finally:
            _call("setns", home, _NEWNET)
    finally:
        os.close(home)


@contextlib.contextmanager
def inside(namespace: int) -> Iterator[None]:
    """This thread is in a namespace, and comes back; sockets that are made there stay there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _call("setns", namespace, _NEWNET)
        try:
            yield
        finally:
            _call("setns", home, _NEWNET)
    finally:
        os.close(home)


def open_device(name: str) -> int:
    """The other end of a new network device in this thread's namespace. Raises LabUnavailable."""
    try:
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        raise LabUnavailable(f"/dev/net/tun cannot be opened: {error.strerror}; {RIGHTS}") from None
    try:
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TUN | _WITHOUT_INFO))
    except OSError as error:
        os.close(device)
        raise LabUnavailable(f"a network device cannot be made: {error.strerror}; {RIGHTS}") from None
    return device


def entering(namespace: int, *words: str) -> tuple[str, ...]:
    """The command that runs these words in a namespace; its descriptor must be passed on to it."""
    return ("nsenter", f"--net=/proc/self/fd/{namespace}", "--", *words)


def _call(name: str, *arguments: int) -> None:
    """A function of the C library that Python offers only from 3.12 on. Raises OSError."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
