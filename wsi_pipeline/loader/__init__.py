"""Tiles of runs as shuffled batches."""
