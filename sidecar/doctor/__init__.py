"""What goes wrong in life, looked for: of this machine, of a running sidecar, and of the mesh as a guest sees it."""
