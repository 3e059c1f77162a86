"""Damaged files of every input format, read in watched processes: `tiny-fuzz`."""
