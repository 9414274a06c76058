"""Probes: how long a broadcast takes, measured by a node's own clock. Nothing here knows streams or connections."""

from ..parameters.probe import ProbeConfig
from .bounds import AnswerBounds
from .events import AppInput, News, ProbeAnswer, ProbeAnswered, ProbeRequested, ProbeStatistics, ProbeSummary
from .messages import (
    ID_BYTES,
    MARK,
    MAX_ANSWER,
    WHOLE,
    Answer,
    ProbeMessage,
    asks,
    decode_answer,
    encode_answer,
    encode_probe,
    prober_of,
    read_probe,
)
from .objective import Judged, ProbeObjective
from .run import ProbeRun, Timing

__all__ = [
    "ID_BYTES",
    "MARK",
    "MAX_ANSWER",
    "WHOLE",
    "Answer",
    "AnswerBounds",
    "AppInput",
    "Judged",
    "News",
    "ProbeAnswer",
    "ProbeAnswered",
    "ProbeConfig",
    "ProbeMessage",
    "ProbeObjective",
    "ProbeRequested",
    "ProbeRun",
    "ProbeStatistics",
    "ProbeSummary",
    "Timing",
    "asks",
    "decode_answer",
    "encode_answer",
    "encode_probe",
    "prober_of",
    "read_probe",
]
