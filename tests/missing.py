"""What a machine lacks that a test needs."""

import os
from typing import NoReturn

import pytest

MUST = os.environ.get("CI") == "true"
"""Whether everything that tests need must be there."""


def not_there(what: object, *, must: bool = MUST) -> NoReturn:
    """Skip the test and say what is missing; where it must be there, fail."""
    if must:
        pytest.fail(f"{what}, and with CI=true it must be", pytrace=False)
    pytest.skip(str(what))
