// RUN: %tiny-opt %s -p tiny-stream-input --split-input-file --verify-diagnostics

// What reads the input again, when its rows are gone, is where the error is.

!q = !quant.uniform<i8:f32, 5.000000e-01:-3>
!x = tensor<1x4x4x3x!q>
func.func @infer(%x: !x) -> !x {
  %w = "tiny.parameter"() {symbol = "w", value = dense<1> : tensor<3x1x1x3xi8>} : () -> tensor<3x1x1x3xi8>
  %b = "tiny.parameter"() {symbol = "b", value = dense<1> : tensor<3xi32>} : () -> tensor<3xi32>
  %h = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<3xf64>} : (!x, tensor<3x1x1x3xi8>, tensor<3xi32>) -> !x
  // expected-error@+1 {{cannot stream the input: it is read again here}}
  %y = "tiny.add"(%h, %x) {clamp = array<i64: -128, 127>, layer = "residual", resultSegmentSizes = array<i32: 1, 0>} : (!x, !x) -> !x
  return %y : !x
}

// -----

!q = !quant.uniform<i8:f32, 5.000000e-01:-3>
!x = tensor<1x4x4x3x!q>
!y = tensor<1x1x1x3x!q>
func.func @infer(%x: !x) -> !y {
  // expected-error@+1 {{cannot stream the input: it is read here, and not by a convolution}}
  %y = "tiny.global_average_pool"(%x) {layer = "pool"} : (!x) -> !y
  return %y : !y
}

// -----

// A partly trained first layer keeps channels of the input, before it reads it itself.

!q = !quant.uniform<i8:f32, 5.000000e-01:-3>
!x = tensor<1x4x4x3x!q>
!g = tensor<1x4x4x1x!q>
func.func @infer(%x: !x) -> (!x, !g) {
  %w = "tiny.parameter"() {symbol = "w", value = dense<1> : tensor<3x1x1x3xi8>} : () -> tensor<3x1x1x3xi8>
  %b = "tiny.parameter"() {symbol = "b", value = dense<1> : tensor<3xi32>} : () -> tensor<3xi32>
  // expected-error@+1 {{cannot stream the input: it is read again here}}
  %g = "tiny.gather_channels"(%x) {channels = array<i64: 1>, layer = "stem"} : (!x) -> !g
  %h = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "stem", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<3xf64>} : (!x, tensor<3x1x1x3xi8>, tensor<3xi32>) -> !x
  return %h, %g : !x, !g
}
