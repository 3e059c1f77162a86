"""Parts of `tiny-lower-to-linalg`: scalar arithmetic, tensor forms, and one rule for each op."""
