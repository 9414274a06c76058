"""What several services of the API need: their view of a call, bounded outlets, errors and their status, encoding."""
