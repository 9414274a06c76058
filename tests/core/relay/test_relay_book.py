"""A relay's book under thousands who want places."""

from sidecar.core.networks import AddressGroup
from sidecar.core.parameters import RelayConfig
from sidecar.core.relay import RelayBook, RelayStatus
from sidecar.core.types import PeerId


def made_up(number: int) -> PeerId:
    return PeerId(b"\x12\x20" + number.to_bytes(32, "big"))


def test_thousands_of_one_network_get_its_share_and_leave_nothing_behind() -> None:
    book = RelayBook(RelayConfig(server=True))
    for number in range(5000):
        host = f"198.51.100.{number % 256}"
        book.reserve(made_up(number), AddressGroup.of(host), float(number) / 1000)
    assert len(book) == 32  # of one network
    others = [book.reserve(made_up(9000 + n), AddressGroup.of(f"203.0.{n}.1"), 6.0) for n in range(97)]
    assert others.count(RelayStatus.OK) == 96  # 128 in all
    for number in range(5000):
        book.lost(made_up(number))
    assert len(book) == 96
    book.expire(1e9)
    assert len(book) == len(book._per_address) == len(book._per_network) == 0


def test_who_comes_and_goes_by_thousands_costs_no_memory() -> None:
    book = RelayBook(RelayConfig(server=True))
    for number in range(5000):
        group = AddressGroup.of(f"{20 + number // 256}.{number % 256}.1.1")
        assert book.reserve(made_up(number), group, 0.0) is RelayStatus.OK
        assert book.open(made_up(number + 1), made_up(number), 0.0) is RelayStatus.OK
        book.close(made_up(number + 1), made_up(number))
        book.lost(made_up(number))
    assert (len(book), book.circuits) == (0, 0)
    assert len(book._per_address) == len(book._per_network) == len(book._circuits) == 0
