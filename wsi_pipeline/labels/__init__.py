"""Columns of the manifest from what is known of slides and tiles: labels, quality, splits."""
