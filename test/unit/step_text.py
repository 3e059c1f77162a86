"""A hand-written step and its inference with all that a memory plan must handle, as text."""

# ruff: noqa: E501  (one op a line, as the errors count them)

STEP = """
!q = tensor<1x2x3x4x!quant.uniform<i8:f32, 5.0e-01:3>>
!f = tensor<1x2x3x4xf32>
!m = tensor<1x2x3x4xi1>
module {
func.func @train_step(%x: !q, %label: tensor<i32>, %rate: tensor<f32>) -> (!f, !f) {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<4xi32>} : () -> tensor<4xi32>
  %v = "tiny.parameter"() {symbol = "v", trained, value = dense<1> : tensor<4xi32>} : () -> tensor<4xi32>
  %k = "tiny.parameter"() {symbol = "k", value = dense<1> : tensor<4x1x1x4xi8>} : () -> tensor<4x1x1x4xi8>
  %y, %mask = "tiny.conv2d"(%x, %k, %w) {layer = "a", operandSegmentSizes = array<i32: 1, 1, 1, 0>, resultSegmentSizes = array<i32: 1, 1>, clamp = array<i64: -128, 127>, groups = 1 : i64, pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>, weight_scales = dense<1.0> : tensor<4xf64>} : (!q, tensor<4x1x1x4xi8>, tensor<4xi32>) -> (!q, !m)
  %s = "tiny.add"(%y, %x) {layer = "b", resultSegmentSizes = array<i32: 1, 0>, clamp = array<i64: -128, 127>, tiny.scratch_bytes = 10 : i64} : (!q, !q) -> !q
  %g = "tiny.dequantize"(%s) {layer = "c"} : (!q) -> !f
  %h = "tiny.scale_gradient"(%g, %mask) {layer = "c", factor = 2.0 : f32, operandSegmentSizes = array<i32: 1, 1>} : (!f, !m) -> !f
  "tiny.bias_update"(%w, %h, %rate) {layer = "d", factors = dense<1.0> : tensor<4xf32>} : (tensor<4xi32>, !f, tensor<f32>) -> ()
  "tiny.bias_update"(%v, %h, %rate) {layer = "e", factors = dense<1.0> : tensor<4xf32>} : (tensor<4xi32>, !f, tensor<f32>) -> ()
  %i = "tiny.scale_gradient"(%h) {layer = "f", factor = 2.0 : f32, operandSegmentSizes = array<i32: 1, 0>} : (!f) -> !f
  %j = "tiny.scale_gradient"(%i) {layer = "g", factor = 2.0 : f32, operandSegmentSizes = array<i32: 1, 0>} : (!f) -> !f
  return %i, %j : !f, !f
}
func.func @infer(%x: !q) -> !q {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<4xi32>} : () -> tensor<4xi32>
  %k = "tiny.parameter"() {symbol = "k", value = dense<1> : tensor<4x1x1x4xi8>} : () -> tensor<4x1x1x4xi8>
  %y = "tiny.conv2d"(%x, %k, %w) {layer = "a", operandSegmentSizes = array<i32: 1, 1, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, clamp = array<i64: -128, 127>, groups = 1 : i64, pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>, weight_scales = dense<1.0> : tensor<4xf64>} : (!q, tensor<4x1x1x4xi8>, tensor<4xi32>) -> !q
  %s = "tiny.add"(%y, %x) {layer = "b", resultSegmentSizes = array<i32: 1, 0>, clamp = array<i64: -128, 127>} : (!q, !q) -> !q
  return %s : !q
}
}
"""
