"""Judges what networks say of tiles: scores, intervals, shifts of the images, maps of slides."""
