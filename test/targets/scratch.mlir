// RUN: %tiny-opt %s --split-input-file -p 'tiny-declare-scratch{target=cortex-m7}' | FileCheck %s --check-prefix=LEAST
// RUN: %tiny-opt %s --split-input-file -p 'tiny-declare-scratch{target=cortex-m7},tiny-plan-memory,tiny-grow-scratch{target=cortex-m7},tiny-check-plan' | FileCheck %s --check-prefix=GROWN
// RUN: not %tiny-opt %s --split-input-file -p 'tiny-declare-scratch{target=z80}' 2>&1 | FileCheck %s --check-prefix=TARGET

// On a core with dot2 a panel of four pixels of 8 channels takes 4 * 8 * 2 bytes, one of two output
// channels 2 * 8 * 2, before it two biases and two multipliers: 64 + 32 + 16 = 112. All 64 pixels
// take 960 bytes more: they are free while %y is made, because %g, which comes later, makes the
// arena. The arena and the other addresses stay as planned.

// LEAST:      "tiny.conv2d"{{.*}}tiny.scratch_bytes = 112 : i64
// LEAST-NEXT: "tiny.dequantize"
// LEAST-NOT:  tiny.scratch_bytes

// GROWN:      func.func @f({{.*}}tiny.arena_bytes = 2560 : i64, tiny.arena_lower_bound_bytes = 2560
// GROWN:      "tiny.conv2d"{{.*}}tiny.scratch_bytes = 1072 : i64, tiny.scratch_offset
// GROWN-NEXT: "tiny.dequantize"

// TARGET: unknown target 'z80'

!x = tensor<1x8x8x8x!quant.uniform<i8:f32, 5.000000e-01:0>>
!y = tensor<1x8x8x8x!quant.uniform<i8:f32, 5.000000e-01:0>>
!f = tensor<1x8x8x8xf32>
func.func @f(%x: !x) -> !f {
  %w = "tiny.parameter"() {symbol = "w", value = dense<1> : tensor<8x1x1x8xi8>} : () -> tensor<8x1x1x8xi8>
  %b = "tiny.parameter"() {symbol = "b", value = dense<1> : tensor<8xi32>} : () -> tensor<8xi32>
  %y = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.01> : tensor<8xf64>} : (!x, tensor<8x1x1x8xi8>, tensor<8xi32>) -> !y
  %g = "tiny.dequantize"(%y) : (!y) -> !f
  return %g : !f
}

// -----

// The panels of nine taps of 256 outputs, 9 * 1024 bytes for two columns, are more than a kernel asks
// for: the plan makes no room, but while something larger makes the arena they are free.

// LEAST:      func.func @g(
// LEAST-NOT:  tiny.scratch_bytes
// GROWN:      func.func @g(
// GROWN:      "tiny.integer_conv2d_input_grad"{{.*}}tiny.scratch_bytes = 9216 : i64, tiny.scratch_offset

!g = tensor<1x4x4x256xi16>
!z = tensor<1x32x32x8x!quant.uniform<i8:f32, 5.000000e-01:0>>
func.func @g(%g: !g, %h: tensor<2xi32>, %z: !z) -> (tensor<1x4x4x2xi16>, tensor<1x32x32x8xf32>) {
  %w = "tiny.parameter"() {symbol = "v", value = dense<1> : tensor<256x3x3x2xi8>} : () -> tensor<256x3x3x2xi8>
  %gx, %gh = "tiny.integer_conv2d_input_grad"(%g, %h, %w) {groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 1, 1, 1>, shift = 9 : i64, strides = array<i64: 1, 1>} : (!g, tensor<2xi32>, tensor<256x3x3x2xi8>) -> (tensor<1x4x4x2xi16>, tensor<2xi32>)
  %y = "tiny.dequantize"(%z) : (!z) -> tensor<1x32x32x8xf32>
  return %gx, %y : tensor<1x4x4x2xi16>, tensor<1x32x32x8xf32>
}
