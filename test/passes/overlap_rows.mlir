// RUN: %tiny-opt %s -p tiny-overlap-rows --split-input-file | FileCheck %s
// RUN: %tiny-opt %s -p tiny-overlap-rows,tiny-plan-memory,tiny-check-plan --split-input-file | FileCheck %s --check-prefix=PLAN

// The dearest step is a 3x3 convolution of 32-byte rows: row r is written when rows r-1 to r+1 are
// still to be read, so two rows further down nothing is lost. The second convolution needs less than
// the first even without, so its kernel stays free.

!q = !quant.uniform<i8:f32, 5.000000e-01:-3>
!x = tensor<1x8x4x8x!q>
!y = tensor<1x4x2x4x!q>
func.func @infer(%x: !x) -> !y {
  %w = "tiny.parameter"() {symbol = "w", value = dense<1> : tensor<8x3x3x8xi8>} : () -> tensor<8x3x3x8xi8>
  %b = "tiny.parameter"() {symbol = "b", value = dense<1> : tensor<8xi32>} : () -> tensor<8xi32>
  %v = "tiny.parameter"() {symbol = "v", value = dense<1> : tensor<4x1x1x8xi8>} : () -> tensor<4x1x1x8xi8>
  %c = "tiny.parameter"() {symbol = "c", value = dense<1> : tensor<4xi32>} : () -> tensor<4xi32>
  %h = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "window", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 1, 1, 1>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<8xf64>} : (!x, tensor<8x3x3x8xi8>, tensor<8xi32>) -> !x
  %y = "tiny.conv2d"(%h, %v, %c) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "pointwise", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 2, 2>, weight_scales = dense<0.5> : tensor<4xf64>} : (!x, tensor<4x1x1x8xi8>, tensor<4xi32>) -> !y
  return %y : !y
}

// CHECK-LABEL: func.func @infer(
// CHECK:         "tiny.conv2d"{{.*}}layer = "window"{{.*}}tiny.traversal = "rows"
// CHECK-NEXT:    "tiny.conv2d"{{.*}}layer = "pointwise"
// CHECK-NOT:     tiny.traversal

// PLAN-LABEL:  func.func @infer(
// PLAN-SAME:     tiny.arena_bytes = 320 : i64
// PLAN-SAME:     tiny.argument_offsets = array<i64: 64>
// PLAN:          "tiny.conv2d"{{.*}}layer = "window"{{.*}}tiny.offsets = array<i64: 0>

// -----

// An input gradient of a depthwise convolution, channel to channel, takes the place of its operand
// exactly: it copies a plane of 4x4 floats and 3x3 weights to scratch memory first.

!g = tensor<1x4x4x8xf32>
func.func @train_step(%g: !g) -> !g {
  %w = "tiny.parameter"() {symbol = "w", value = dense<1> : tensor<8x3x3x1xi8>} : () -> tensor<8x3x3x1xi8>
  %gx = "tiny.conv2d_input_grad"(%g, %w) {groups = 8 : i64, layer = "depthwise", operandSegmentSizes = array<i32: 1, 1, 0>, pads = array<i64: 1, 1, 1, 1>, scales = dense<0.5> : tensor<8xf32>, strides = array<i64: 1, 1>} : (!g, tensor<8x3x3x1xi8>) -> !g
  return %gx : !g
}

// CHECK-LABEL: func.func @train_step(
// CHECK:         "tiny.conv2d_input_grad"{{.*}}tiny.scratch_bytes = 100 : i64, tiny.traversal = "planes"

// PLAN-LABEL:  func.func @train_step(
// PLAN-SAME:     tiny.arena_bytes = 612 : i64
// PLAN-SAME:     tiny.argument_offsets = array<i64: [[AT:[0-9]+]]>
// PLAN:          "tiny.conv2d_input_grad"{{.*}}tiny.offsets = array<i64: [[AT]]>

// -----

// A depthwise convolution of the forward pass may do the same, whatever its stride: channel c of the
// result only meets channel c of the input. Here a channel costs less than rows that keep apart.

!q = !quant.uniform<i8:f32, 5.000000e-01:-3>
!x = tensor<1x8x8x32x!q>
!y = tensor<1x4x4x32x!q>
func.func @infer(%x: !x) -> !y {
  %w = "tiny.parameter"() {symbol = "w", value = dense<1> : tensor<32x3x3x1xi8>} : () -> tensor<32x3x3x1xi8>
  %b = "tiny.parameter"() {symbol = "b", value = dense<1> : tensor<32xi32>} : () -> tensor<32xi32>
  %y = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 32 : i64, layer = "depthwise", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 1, 1, 1>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 2, 2>, weight_scales = dense<0.5> : tensor<32xf64>} : (!x, tensor<32x3x3x1xi8>, tensor<32xi32>) -> !y
  return %y : !y
}

// CHECK-LABEL: func.func @infer(
// CHECK:         "tiny.conv2d"{{.*}}layer = "depthwise"{{.*}}tiny.scratch_bytes = 64 : i64, tiny.traversal = "planes"

// PLAN-LABEL:  func.func @infer(
// PLAN-SAME:     tiny.arena_bytes = 2112 : i64
