"""Graded changes of tiles, and what networks are worth along them."""
