"""A dial fails with the error that tells most."""

from sidecar.core.errors import DialBackoff, DialTimeout, SidecarError, WrongPeer
from sidecar.core.events import Dial
from sidecar.net.race import Race


def test_a_race_remembers_what_tells_most() -> None:
    race = Race(Dial(1, None, ()))
    for error in (DialBackoff("a"), WrongPeer("b"), DialTimeout("c"), SidecarError("d")):
        race.failed(error)
    assert str(race.error) == "b"
