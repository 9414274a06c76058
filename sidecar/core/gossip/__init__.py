"""Broadcast: gossipsub 1.1 as a pure machine. `router` is the door; nothing here knows streams or connections."""
