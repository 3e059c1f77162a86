"""Thin command mains."""
