"""TOML, environment and flags become one frozen `Config`; `sections` has the table of keys."""

from .load import Loaded, configured, default_file, load, state_directory
from .schema import KEYS, Config, Key, adopted, changed

__all__ = [
    "KEYS",
    "Config",
    "Key",
    "Loaded",
    "adopted",
    "changed",
    "configured",
    "default_file",
    "load",
    "state_directory",
]
