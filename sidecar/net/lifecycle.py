"""The life of a connection, from its socket's opening to its end, as a table of states.

    NEW -> UPGRADING -> OPEN -> DRAINING -> CLOSING -> CUT -> CLOSED

States may be skipped, and nothing leads back. The node knows of a connection from OPEN on, and is told of
the end on the way to CLOSING, CUT or CLOSED, whichever comes first: these three are `OVER`. Apart from this, for it may
be so in several states: whether reading is paused (`ReadTurns`), whether the transport takes bytes, and which half of
the socket has ended already.
"""

import enum
from collections.abc import Mapping
from typing import Final


class State(enum.Enum):
    """Where a connection is in its life."""

    NEW = enum.auto()
    """Without a socket."""
    UPGRADING = enum.auto()
    """Admitted, and half-open: security and muxer are being negotiated, and before them what its layers negotiate."""
    OPEN = enum.auto()
    """The node uses it."""
    DRAINING = enum.auto()
    """As open; once nothing is queued any more, go-away is said."""
    CLOSING = enum.auto()
    """What is queued leaves, and go-away behind it. Nothing more is asked of the node, nor told to it."""
    CUT = enum.auto()
    """Nothing more is read or written; the transport is on its way to be closed."""
    CLOSED = enum.auto()
    """The socket is gone, or was never let in."""


class Step(enum.Enum):
    """What leads from one state to another."""

    REFUSED = enum.auto()
    """The socket is not let in."""
    ADMITTED = enum.auto()
    """It is."""
    UPGRADED = enum.auto()
    """Streams may be opened, and the connection is wanted."""
    DRAIN_ASKED = enum.auto()
    """This node leaves, once all is said that it has to say."""
    ENDED = enum.auto()
    """By either side: in order, or for an error of which the remote may still be told."""
    ABORTED = enum.auto()
    """At once."""
    LOST = enum.auto()
    """The socket is gone."""


_ENDS: Final = {Step.ENDED: State.CLOSING, Step.ABORTED: State.CUT, Step.LOST: State.CLOSED}

TRANSITIONS: Final[Mapping[State, Mapping[Step, State]]] = {
    State.NEW: {Step.REFUSED: State.CLOSED, Step.ADMITTED: State.UPGRADING},
    State.UPGRADING: {Step.UPGRADED: State.OPEN, **_ENDS},
    State.OPEN: {Step.DRAIN_ASKED: State.DRAINING, **_ENDS},
    State.DRAINING: _ENDS,
    State.CLOSING: {Step.ABORTED: State.CUT, Step.LOST: State.CLOSED},
    State.CUT: {Step.LOST: State.CLOSED},
    State.CLOSED: {},
}

OVER: Final = (State.CLOSING, State.CUT, State.CLOSED)
"""The states in which the node has been told of the end, if it knew the connection."""


def after(state: State, step: Step) -> State:
    """The state that `step` leads to. Raises RuntimeError where the table has none: a defect of the caller."""
    try:
        return TRANSITIONS[state][step]
    except KeyError:
        raise RuntimeError(f"a connection that is {state.name} cannot be {step.name}") from None
