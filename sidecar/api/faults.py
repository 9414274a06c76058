"""Errors that only the API knows. `errors.py` has their status codes."""

from ..core.errors import InvalidArgument, ResourceExhausted, SidecarError


class TopicOptionsDiffer(SidecarError):
    """The topic is in use here with other options."""


class SlowReader(ResourceExhausted):
    """A stream ended, as its policy wants, since its reader was slower than its bounded queue."""


class InvalidField(InvalidArgument):
    """A field of a request is malformed; says which, and what is the matter with it."""

    def __init__(self, field: str, error: SidecarError) -> None:
        super().__init__(f"{field}: {error}")
        self.field = field
        self.error = error
