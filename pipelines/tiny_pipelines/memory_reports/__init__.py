"""Where the bytes of a step are, what each pass saves, and which boards take it."""
