// RUN: %tiny-opt %s -p 'tiny-plan-memory,tiny-check-plan' | FileCheck %s
// RUN: %tiny-opt %s -p 'tiny-plan-memory{in_place=false},tiny-check-plan' | FileCheck %s --check-prefix=APART
// RUN: not %tiny-opt %s -p 'tiny-plan-memory{alignment=2}' 2>&1 | FileCheck %s --check-prefix=WRONG

// A mask of 2x3 pixels of 9 channels takes 2 bytes a pixel: 12. %h replaces %g and %i replaces %h, so
// the gradient exists once: the worst op is the dequantize, %y 56 + %m 12 + %p 12 + %g 216 + rate 4.
// Without replacement it is the first scale_gradient, %g and %h 432 + 12 + 12 + 4.
// State, in the order of @train_step: `w` is 9 halves in 5 words, `b` 9 words.

!q = tensor<1x2x3x9x!quant.uniform<i8:f32, 5.000000e-01:0>>
!p = tensor<1x1x1x9x!quant.uniform<i8:f32, 5.000000e-01:0>>
!f = tensor<1x2x3x9xf32>
!m = tensor<1x2x3x9xi1>
module {
func.func @infer(%x: !q) -> !q {
  %b = "tiny.parameter"() {symbol = "b", trained, value = dense<1> : tensor<9xi32>} : () -> tensor<9xi32>
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<128> : tensor<9x1x1x1xi16>} : () -> tensor<9x1x1x1xi16>
  %y = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 9 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<1.0> : tensor<9xf64>} : (!q, tensor<9x1x1x1xi16>, tensor<9xi32>) -> !q
  return %y : !q
}
func.func @train_step(%x: !q, %label: tensor<i32>, %rate: tensor<f32>) -> (!f, !p) {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<128> : tensor<9x1x1x1xi16>} : () -> tensor<9x1x1x1xi16>
  %b = "tiny.parameter"() {symbol = "b", trained, value = dense<1> : tensor<9xi32>} : () -> tensor<9xi32>
  %y, %m = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 9 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>, weight_scales = dense<1.0> : tensor<9xf64>} : (!q, tensor<9x1x1x1xi16>, tensor<9xi32>) -> (!q, !m)
  %p = "tiny.global_average_pool"(%y) {tiny.scratch_bytes = 17 : i64} : (!q) -> !p
  %g = "tiny.dequantize"(%y) : (!q) -> !f
  %h = "tiny.scale_gradient"(%g, %m) {factor = 2.0 : f32, operandSegmentSizes = array<i32: 1, 1>} : (!f, !m) -> !f
  %i = "tiny.scale_gradient"(%h) {factor = 2.0 : f32, operandSegmentSizes = array<i32: 1, 0>} : (!f) -> !f
  "tiny.bias_update"(%b, %i, %rate) {factors = dense<1.0> : tensor<9xf32>} : (tensor<9xi32>, !f, tensor<f32>) -> ()
  return %i, %p : !f, !p
}
}

// CHECK-LABEL: func.func @infer(
// CHECK-SAME:    tiny.arena_bytes = 112 : i64, tiny.arena_lower_bound_bytes = 112 : i64
// CHECK-SAME:    tiny.argument_offsets = array<i64: [[X:[0-9]+]]>
// CHECK-SAME:    tiny.state_bytes = 56 : i64
// CHECK:         {symbol = "b", tiny.state_offset = 20 : i64
// CHECK:         {symbol = "w", tiny.state_offset = 0 : i64

// CHECK-LABEL: func.func @train_step(
// CHECK-SAME:    tiny.arena_bytes = 300 : i64, tiny.arena_lower_bound_bytes = 300 : i64, tiny.arena_peak = "tiny.dequantize"
// CHECK-SAME:    tiny.argument_offsets = array<i64: {{[0-9]+}}, {{[0-9]+}}, {{[0-9]+}}>
// CHECK-SAME:    tiny.stage = "planned", tiny.state_bytes = 56 : i64
// CHECK:         {symbol = "w", tiny.state_offset = 0 : i64
// CHECK:         {symbol = "b", tiny.state_offset = 20 : i64
// CHECK:         "tiny.conv2d"({{.*}}tiny.offsets = array<i64: {{[0-9]+}}, {{[0-9]+}}>
// CHECK:         "tiny.global_average_pool"({{.*}}tiny.scratch_bytes = 17 : i64, tiny.scratch_offset = {{[0-9]+}} : i64
// CHECK:         "tiny.dequantize"({{.*}}tiny.offsets = array<i64: [[G:[0-9]+]]>
// CHECK-NEXT:    "tiny.scale_gradient"({{.*}}tiny.offsets = array<i64: [[G]]>
// CHECK-NEXT:    "tiny.scale_gradient"({{.*}}tiny.offsets = array<i64: [[G]]>
// CHECK-NEXT:    "tiny.bias_update"
// CHECK-NOT:     tiny.offsets
// CHECK-SAME:    {factors
// CHECK-NOT:     tiny.offsets
// CHECK:         return

// APART-LABEL: func.func @train_step(
// APART-SAME:    tiny.arena_lower_bound_bytes = 460 : i64

// WRONG: tiny-plan-memory: alignment 2 is not one of (4, 8, 16)
