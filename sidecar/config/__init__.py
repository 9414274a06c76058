"""TOML, environment and flags become one frozen `Config`; `sections` has the table of keys."""

from .load import Loaded, default_file, load, state_directory
from .schema import KEYS, Config, Key

__all__ = ["KEYS", "Config", "Key", "Loaded", "default_file", "load", "state_directory"]
