"""Names and records between real sidecar processes, on the command line."""

import json
import subprocess
import sys
from pathlib import Path

from .processes import PATIENCE, environment, running

NAMESPACES = ("--dht-namespaces", "interop=greatest:refuse_prefix=bad,signed=signed")


def test_three_sidecars_advertise_discover_and_keep_records(tmp_path: Path) -> None:
    with running(tmp_path / "1", *NAMESPACES) as first:
        bootstrap = ("--bootstrap", first.line("  address").split()[-1])
        with (
            running(tmp_path / "2", *NAMESPACES, *bootstrap) as second,
            running(tmp_path / "3", *NAMESPACES, *bootstrap, "--dht-mode", "client") as third,
        ):
            for one in (first, second, third):
                one.line("Ready after")
            me = second.json("id")["peer_id"]
            advertising = subprocess.Popen(
                [sys.executable, "-m", "sidecar", "advertise", "service", "--api", str(second.socket), "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                env=environment(second.home),
                text=True,
            )
            try:
                assert advertising.stdout is not None
                told = json.loads(advertising.stdout.readline())
                while not told["holders"]:  # it had not found anybody yet, and goes on
                    told = json.loads(advertising.stdout.readline())
                assert (told["name"], told["holders"]) == ("service", 1)  # the client keeps nothing for others
                found = third.json("discover", "service")
                assert (found["peer_id"], bool(found["addresses"])) == (me, True)
            finally:
                advertising.terminate()
                advertising.communicate(timeout=PATIENCE)
            nobody = first.command("discover", "another")
            assert (nobody.returncode, "no peer advertises another" in nobody.stderr) == (1, True)

            assert third.json("record", "put", "/interop/name", "good", "--quorum", "2")["stored"] == 2
            record = second.json("record", "get", "/interop/name")
            assert (record["text"], record["publisher"]) == ("good", "")
            assert record["expires_at"] > 0
            refused = first.command("record", "put", "/interop/name", "bad")
            assert (refused.returncode, "may not begin" in refused.stderr) == (1, True)
            outdated = first.command("record", "put", "/interop/name", "first")
            assert (outdated.returncode, "better value" in outdated.stderr) == (1, True)
            assert first.command("record", "put", "/interop/name").returncode == 2
            unknown = first.command("record", "get", "/unknown/name")
            assert (unknown.returncode, "no rule" in unknown.stderr) == (1, True)
            signed = f"/signed/{me}"
            assert second.json("record", "put", signed, "mine")["stored"] == 1
            assert third.json("record", "get", signed)["publisher"] == me
