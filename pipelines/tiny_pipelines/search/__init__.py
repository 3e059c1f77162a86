"""Scheme search: what each update is worth, what it costs, and the best within a budget."""
