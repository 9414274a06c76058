"""What is known of a peer's addresses, over a restart of the one who knows it."""

import time
from pathlib import Path

from .processes import running


def test_where_a_peer_was_reached_is_known_after_a_restart(tmp_path: Path) -> None:
    begun = time.time()
    with running(tmp_path / "first") as first:
        address = first.line("  address").split()[-1]
        peer = address.rpartition("/")[2]
        with running(tmp_path / "second", "--bootstrap", address) as second:
            second.line("Ready after")
            (before,) = second.json("peer", peer)["known_addresses"]
            second.popen.terminate()
            second.ended()
        first.popen.kill()
        first.ended()
    with running(tmp_path / "second") as second:  # nobody is there, and no configuration names it
        second.line("Ready after")
        found = second.json("peer", peer)
    (known,) = found["known_addresses"]
    assert not found["connected"]
    assert known["address"] == before["address"]
    assert known["origin"] == "memory"
    assert begun - 1 < known["last_success"] <= before["last_success"] + 1
