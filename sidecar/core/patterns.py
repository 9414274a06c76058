"""Names with `*` in them, as scopes and rules have them."""


def matches(pattern: str, name: str) -> bool:
    """Whether a name fits: each `*` stands for any text, the empty one too.

    Takes time linear in the name for a fixed number of `*`.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return name == pattern
    *middle, last = rest
    if not name.startswith(first):
        return False
    position = len(first)
    for part in middle:  # the first place that fits is as good as any later one
        found = name.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return len(name) - position >= len(last) and name.endswith(last)
