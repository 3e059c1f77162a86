"""Hardware: targets, boards, kernels, code generation, firmware and its emulation."""
