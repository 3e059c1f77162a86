"""Where the result of an op may overlap an operand that dies: how far before it the result starts.

A kernel guarantees an order in which it reads and writes; from it follows a distance `d` such that
nothing is lost if the result starts at least `d` bytes before the operand. Three orders:

- elementwise (`add`, `scale_gradient`, `add_gradients`): every element is read before the same
  element is written, in increasing order; `d = 0`.
- `tiny.traversal = "rows"` (`conv2d`, `conv2d_input_grad`, `fused_block`): output rows are computed
  one after the other; `d` follows from the rows still to be read, see `row_schedule`.
- `tiny.traversal = "planes"` (`conv2d_input_grad`, one channel to one channel, equal shapes): a
  channel is copied to scratch memory, then overwritten; the result lies exactly where the operand
  does or before it by whole rows never, so `d = 0` and equal addresses are the only overlap.

An op without `tiny.traversal` promises nothing: its kernel is free to choose an order.
"""
