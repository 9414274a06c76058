import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.errors import ProtocolError
from sidecar.core.varint import decode, encode

# multiformats/unsigned-varint, README, and the bound that it sets.
VECTORS = [
    (0, "00"),
    (1, "01"),
    (127, "7f"),
    (128, "8001"),
    (255, "ff01"),
    (300, "ac02"),
    (16384, "808001"),
    (2**63 - 1, "ffffffffffffffff7f"),
]


@pytest.mark.parametrize(("value", "encoded"), VECTORS)
def test_the_vectors_of_the_specification(value: int, encoded: str) -> None:
    assert encode(value).hex() == encoded
    assert decode(bytes.fromhex(encoded)) == (value, len(encoded) // 2)


@given(st.integers(0, 2**63 - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_a_varint_is_read_where_it_stands_and_asks_for_more_while_it_is_cut(
    value: int, before: bytes, after: bytes
) -> None:
    encoded = encode(value)
    whole = before + encoded + after
    for data in (whole, bytearray(whole), memoryview(whole)):
        assert decode(data, len(before)) == (value, len(before) + len(encoded))
    for cut in range(len(encoded)):
        assert decode(encoded[:cut]) is None


@pytest.mark.parametrize("encoded", ["8000", "818000", "80808080808080808000", "ffffffffffffffffff", "80" * 9])
def test_what_is_not_minimal_or_too_long_is_refused(encoded: str) -> None:
    with pytest.raises(ProtocolError):
        decode(bytes.fromhex(encoded))
