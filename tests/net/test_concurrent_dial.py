"""A dial fails with the error that tells most."""

from sidecar.core.errors import DialBackoff, DialTimeout, SidecarError, WrongPeer
from sidecar.core.events import Dial
from sidecar.net.concurrent_dial import ConcurrentDial


def test_a_dial_remembers_what_tells_most() -> None:
    dial = ConcurrentDial(Dial(1, None, ()))
    for error in (DialBackoff("a"), WrongPeer("b"), DialTimeout("c"), SidecarError("d")):
        dial.failed(error)
    assert str(dial.error) == "b"
