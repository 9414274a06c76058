"""What survives a restart: the state directory with its lock and key, bans, peers, and small private files."""
