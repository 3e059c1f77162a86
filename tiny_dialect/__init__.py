"""The `tiny` MLIR dialect: quantized training graphs, their verifiers and their NumPy meaning."""
