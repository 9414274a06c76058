"""`sidecar sim`: scenarios in TOML, played on virtual time, and what their reports say."""
