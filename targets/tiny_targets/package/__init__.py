"""The folder a firmware engineer takes home: a C library with its metadata, tests and proof."""
