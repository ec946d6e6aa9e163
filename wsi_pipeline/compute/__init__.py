"""Where work runs: calls, at most so many in flight, failures as values."""
