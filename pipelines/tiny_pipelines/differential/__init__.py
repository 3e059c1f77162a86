"""Differential testing: random networks through the whole compiler, on every way to run them."""
