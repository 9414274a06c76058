"""Plays the attacks of `scenarios/attacks` on virtual time, and writes what happened into docs/defence.md."""
