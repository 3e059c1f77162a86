"""IR to IR passes; no hardware."""
