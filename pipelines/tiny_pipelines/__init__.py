"""What a user runs: importers, named pipelines, host training and the commands."""
