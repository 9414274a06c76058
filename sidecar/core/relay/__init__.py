"""Circuit relay v2 and DCUtR: their messages, vouchers, and a relay's book of reservations (libp2p specs, relay)."""

from .book import RelayBook
from .messages import (
    DCUTR,
    HOP,
    MAX_MESSAGE,
    STOP,
    CircuitLimit,
    FirstFrame,
    Hop,
    HopType,
    Punch,
    PunchType,
    RelayStatus,
    Reservation,
    Stop,
    StopType,
    decode_hop,
    decode_punch,
    decode_stop,
    encode_hop,
    encode_punch,
    encode_stop,
)
from .standing import RelayStanding
from .voucher import check_voucher, make_voucher

__all__ = [
    "DCUTR",
    "HOP",
    "MAX_MESSAGE",
    "STOP",
    "CircuitLimit",
    "FirstFrame",
    "Hop",
    "HopType",
    "Punch",
    "PunchType",
    "RelayBook",
    "RelayStanding",
    "RelayStatus",
    "Reservation",
    "Stop",
    "StopType",
    "check_voucher",
    "decode_hop",
    "decode_punch",
    "decode_stop",
    "encode_hop",
    "encode_punch",
    "encode_stop",
    "make_voucher",
]
