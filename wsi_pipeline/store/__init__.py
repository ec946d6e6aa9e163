"""Encoded tiles in sharded Zarr: names, bytes, writing and reading."""
