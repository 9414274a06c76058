"""What becomes of a test whose tool is not there."""

import pytest

from tests.missing import not_there


def test_it_is_skipped_unless_the_tool_must_be_there() -> None:
    with pytest.raises(pytest.skip.Exception, match="no abacus"):
        not_there("no abacus", must=False)
    with pytest.raises(pytest.fail.Exception, match="no abacus, and with CI=true it must be"):
        not_there("no abacus", must=True)
