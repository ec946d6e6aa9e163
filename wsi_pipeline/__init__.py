"""Whole-slide images in; transferable, externally tested tile networks out."""

__version__ = "0.1.0"
