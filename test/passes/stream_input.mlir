// RUN: %tiny-opt %s -p tiny-stream-input --split-input-file | FileCheck %s
// RUN: %tiny-opt %s -p tiny-stream-input,tiny-plan-memory,tiny-check-plan --split-input-file | FileCheck %s --check-prefix=PLAN

// The first argument is marked. Planned, it is a ring of the three rows that a window meets, 24 bytes
// each, beside an output of 4 x 4 x 8 bytes.

!q = !quant.uniform<i8:f32, 5.000000e-01:-3>
!x = tensor<1x8x8x3x!q>
!y = tensor<1x4x4x8x!q>
func.func @infer(%x: !x) -> !y {
  %w = "tiny.parameter"() {symbol = "w", value = dense<1> : tensor<8x3x3x3xi8>} : () -> tensor<8x3x3x3xi8>
  %b = "tiny.parameter"() {symbol = "b", value = dense<1> : tensor<8xi32>} : () -> tensor<8xi32>
  %y = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "stem", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 1, 1, 1>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 2, 2>, weight_scales = dense<0.5> : tensor<8xf64>} : (!x, tensor<8x3x3x3xi8>, tensor<8xi32>) -> !y
  return %y : !y
}

// CHECK-LABEL: func.func @infer(
// CHECK-SAME:    {tiny.streamed})
// PLAN-LABEL:  func.func @infer(
// PLAN-SAME:     {tiny.ring_rows = 3 : i64, tiny.streamed})
// PLAN-SAME:     tiny.arena_bytes = 200 : i64

// -----

// A function that takes no image is left alone.

func.func @apply_updates(%rate: tensor<f32>) {
  return
}

// CHECK-LABEL: func.func @apply_updates(
// CHECK-NOT:     tiny.streamed
// PLAN-LABEL:  func.func @apply_updates(
