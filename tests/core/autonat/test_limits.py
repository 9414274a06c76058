"""How many requests a server of AutoNAT takes."""

from sidecar.core.autonat import RequestLimits
from sidecar.core.parameters import AutonatConfig


def limits(**bounds: int) -> RequestLimits:
    return RequestLimits(AutonatConfig(**bounds))


def test_one_asker_has_two_under_way_and_twelve_in_a_minute() -> None:
    one = limits()
    assert one.begin(["a"], 0.0)
    assert one.begin(["a"], 0.0)
    assert not one.begin(["a"], 0.0)
    one.end(["a"])
    one.end(["a"])
    for _ in range(10):
        assert one.begin(["a"], 1.0)
        one.end(["a"])
    assert not one.begin(["a"], 59.0)
    assert one.begin(["b"], 59.0)
    assert one.begin(["a"], 60.5)


def test_many_peers_of_one_network_share_its_bound() -> None:
    one = limits()
    for number in range(12):
        assert one.begin([number, "network"], 0.0)
        one.end([number, "network"])
    assert not one.begin([12, "network"], 0.0)
    assert one.begin([12], 0.0)


def test_all_together_have_sixty_in_a_minute_and_sixteen_under_way() -> None:
    one = limits()
    for number in range(16):
        assert one.begin([number], 0.0)
    assert not one.begin([99], 0.0)
    for number in range(16):
        one.end([number])
    for number in range(16, 60):
        assert one.begin([number], 0.0)
        one.end([number])
    assert not one.begin([60], 1.0)
    assert one.begin([60], 60.0)


def test_requests_that_pay_have_a_bound_of_their_own() -> None:
    one = limits(dial_data_per_minute=2)
    assert one.with_data(0.0)
    assert one.with_data(1.0)
    assert not one.with_data(2.0)
    assert one.with_data(60.5)
