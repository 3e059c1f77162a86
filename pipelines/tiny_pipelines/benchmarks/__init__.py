"""What kernels cost, an op at a time: networks, recorded totals, peers, and how to block them."""
