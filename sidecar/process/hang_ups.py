"""SIGHUP from the first moment on, so that one that comes while `sidecar run` is being loaded does not end it."""

import signal

_came: list[int] = []


def note() -> None:
    """Only take note of it, until whoever serves it is there."""
    signal.signal(signal.SIGHUP, lambda number, frame: _came.append(number))


def came() -> bool:
    """Whether it came since `note`."""
    return bool(_came)
