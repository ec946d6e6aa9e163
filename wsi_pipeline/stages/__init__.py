"""The steps of a run: files in, files out, one record per slide."""
