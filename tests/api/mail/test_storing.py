"""What is said of the disk of durable messages: by readiness, by statistics, to apps."""

from pathlib import Path

import pytest
from sidecar_client import Durable, SendOutcome

from sidecar.api.mail import Mail
from sidecar.core.parameters import DurableConfig
from sidecar.store import keeper
from sidecar.store.durable import Append
from tests.api.fakes import OTHER, asynchronous, served

TMPFS = "/state is on tmpfs: it is in memory"


def append() -> Append:
    return Append(OTHER, "/orders/1", "", (b"order",), (), 1000.0)


@asynchronous
async def test_a_volume_that_does_not_last_is_told_once_it_matters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, told = tmp_path / "durable.db", []
    mail = Mail(path, DurableConfig(), lambda told: None, volatile=TMPFS)
    mail.tell(lambda *what: told.append(what))
    with caplog.at_level("INFO"):
        await mail.start()
        assert [(record.levelname, TMPFS in record.getMessage()) for record in caplog.records] == [("INFO", True)]
        caplog.clear()
        await mail.send(append())
        await mail.send(append())
        assert [(record.levelname, TMPFS in record.getMessage()) for record in caplog.records] == [("WARNING", True)]
    assert told == [("VolatileVolume", TMPFS)]
    assert mail.statistics().volatile == 1
    await mail.close()
    caplog.clear()
    again = Mail(path, DurableConfig(), lambda told: None, volatile=TMPFS)
    again.tell(lambda *what: told.append(what))
    await again.start()  # there are some from before: it matters at once
    assert "WARNING" in [record.levelname for record in caplog.records]
    assert told[1:] == [("VolatileVolume", TMPFS)]
    await again.close()


@asynchronous
async def test_what_refuses_comes_before_what_is_slow_or_does_not_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_SLOW", 0.0)
    place, told = tmp_path / "state", []
    mail = Mail(place / "durable.db", DurableConfig(), lambda told: None, volatile=TMPFS)
    mail.tell(lambda reason, message: told.append(reason))
    with pytest.raises(Exception, match=r"durable\.db cannot be opened"):
        await mail.send(append())
    assert told[-1] == "DiskRefuses"
    assert mail.statistics().disk_refuses == 1
    place.mkdir()
    await mail.send(append())
    assert told[-1] == "DiskSlow"
    monkeypatch.setattr(keeper, "_SLOW", 60.0)
    await mail.send(append())
    assert told[-1] == "VolatileVolume"
    assert (mail.statistics().disk_refuses, mail.statistics().disk_slow) == (0, 0)
    await mail.close()


@asynchronous
async def test_an_app_is_told_by_its_receipts_and_by_readiness(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, backend, _, client):
        assert backend._mail is not None
        receipt = await client.send(str(OTHER), "/orders/1", b"order", durable=Durable())
        assert (receipt.outcome, receipt.detail) == (SendOutcome.STORED, "")
        assert "Storing" not in [condition.type for condition in (await client.readiness()).conditions]
        backend._mail.volatile = TMPFS
        receipt = await client.send(str(OTHER), "/orders/1", b"order", durable=Durable())
        assert (receipt.outcome, receipt.detail) == (SendOutcome.STORED, f"it does not last: {TMPFS}")
        backend.readiness.stored("VolatileVolume", TMPFS)
        (storing,) = [each for each in (await client.readiness()).conditions if each.type == "Storing"]
        assert (storing.met, storing.reason, storing.message) == (True, "VolatileVolume", TMPFS)
        assert "--state" in storing.remedy
        backend.readiness.stored("Damaged", "it is malformed")
        (storing,) = [each for each in (await client.readiness()).conditions if each.type == "Storing"]
        assert (storing.met, storing.reason) == (False, "Damaged")
        backend.readiness.stored()
        assert "Storing" not in [condition.type for condition in (await client.readiness()).conditions]
