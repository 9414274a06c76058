"""Text of others, made harmless for whoever shows it in lines: the log, the trace, the commands, the board."""


def escaped(text: str, *, but: str = "") -> str:
    """A text in which nothing can steer a terminal or forge a line: what could is escaped, but for those in `but`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in but else c.encode("unicode_escape").decode() for c in text)
