"""Signatures that are checked once for all nodes of a simulation."""

from sidecar.core.gossip import SignatureCheck
from sidecar.core.gossip.signing import SIGN_PREFIX
from sidecar.core.identity import Identity
from sidecar.sim.verdicts import Verdicts


def test_verdicts_are_those_of_the_check_itself() -> None:
    identity, verdicts = Identity(bytes(32)), Verdicts()
    good = [
        SignatureCheck(identity.public_key, content, identity.sign(SIGN_PREFIX + content)) for content in (b"a", b"b")
    ]
    forged = good[0]._replace(content=b"c")
    for _ in range(2):  # the second time from memory
        assert verdicts.verify([good[0], forged, good[1]]) == [None, "signature", None]
    assert verdicts.verify([]) == []


def test_verdicts_are_bounded() -> None:
    key = Identity(bytes(32)).public_key
    verdicts = Verdicts()
    for number in range(6000):
        assert verdicts.verify([SignatureCheck(key, b"%d" % number, b"short")]) == ["signature"]
    assert len(verdicts._known) <= 4096
