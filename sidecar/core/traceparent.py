"""A place in a trace, as W3C Trace Context writes it: `00-TRACE-PARENT-FLAGS`, lower-case hexadecimal."""

import re

# Later versions may add something behind; what is known of them reads as version 00 (Trace Context, 4.3).
_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[ -~]{0,64})?")


def wellformed(text: str) -> bool:
    """Whether this is a traceparent."""
    return _FORM.fullmatch(text) is not None and (len(text) == 55 or not text.startswith("00"))
