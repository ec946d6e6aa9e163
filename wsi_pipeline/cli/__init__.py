"""The command `wsi-pipeline`."""
