"""Errors that only the API knows. `status.py` has their status codes."""

from collections.abc import Mapping

from ...core.errors import InvalidArgument, ResourceExhausted, SidecarError


class TopicOptionsDiffer(SidecarError):
    """The topic is in use here with other options."""


class SlowReader(ResourceExhausted):
    """A stream ended, as its policy wants, since its reader was slower than its bounded queue."""


class Unauthenticated(SidecarError):
    """The call has no token where one is needed, or one that is not valid."""


class PermissionDenied(SidecarError):
    """The caller's token does not allow this; `scope` is what it lacks."""

    def __init__(self, message: str, scope: str = "") -> None:
        super().__init__(message)
        self.scope = scope
        self.metadata: Mapping[str, str] = {"scope": scope}


class QuotaExceeded(ResourceExhausted):
    """The caller's token has used up its `quota`; `retry` is the seconds after which there is some again, if known."""

    def __init__(self, message: str, quota: str = "", limit: str = "", retry: float | None = None) -> None:
        super().__init__(message)
        self.quota = quota
        self.retry = retry
        self.metadata: Mapping[str, str] = {"quota": quota, "limit": limit}


class InvalidField(InvalidArgument):
    """A field of a request is malformed; says which, and what is the matter with it."""

    def __init__(self, field: str, error: SidecarError) -> None:
        super().__init__(f"{field}: {error}")
        self.field = field
        self.error = error
