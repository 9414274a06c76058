"""What kinds of values scenarios have, beside those of the configuration."""

from ..config.kinds import Kind, seconds, text

KIND_NAME = text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "up to 64 letters, digits, '.', '_' and '-'", "NAME")
REGION = text(r"[^\x00-\x1f\x7f]{1,64}", "a name of 1 to 64 characters", "REGION")
TIME = seconds(0, 86_400)
SOME_TIME = seconds(0.001, 86_400)
LATENCY = seconds(0.0001, 60)


def positive(most: float, unit: str) -> Kind:
    """A number above 0, fractions allowed."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("not a number")
        if not 0 < value <= most:
            raise ValueError("out of range")
        return float(value)

    return Kind(read, str, unit, f"a number above 0, at most {most:g}, of {unit}", "N")
