// RUN: %tiny-opt %s -p tiny-prove-bounds --split-input-file --verify-diagnostics

// A saturated bias is harmless where the products cannot add much to it.

!x = tensor<1x1x1x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @infer(%x: !x) -> !x {
  %w = "tiny.parameter"() {symbol = "w", value = dense<127> : tensor<2x1x1x2xi8>} : () -> tensor<2x1x1x2xi8>
  %b = "tiny.parameter"() {symbol = "b", value = dense<[2147483647, -2147483648]> : tensor<2xi32>} : () -> tensor<2xi32>
  %y = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<[1.000000e-09, 0.99]> : tensor<2xf64>} : (!x, tensor<2x1x1x2xi8>, tensor<2xi32>) -> !x
  return %y : !x
}

// -----

// 160000 products of 127 and 130 on top of the largest bias. The other channel has the same weights
// and no bias.

!x = tensor<1x400x400x1x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!y = tensor<1x1x1x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @infer(%x: !x) -> !y {
  %w = "tiny.parameter"() {symbol = "w", value = dense<127> : tensor<2x400x400x1xi8>} : () -> tensor<2x400x400x1xi8>
  %b = "tiny.parameter"() {symbol = "b", value = dense<[0, 2147483647]> : tensor<2xi32>} : () -> tensor<2xi32>
  // expected-error@+1 {{channel 1: the accumulator can reach 4789083647; its requantization is exact below 3221225472}}
  %y = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "wide", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.9999> : tensor<2xf64>} : (!x, tensor<2x400x400x1xi8>, tensor<2xi32>) -> !y
  return %y : !y
}

// -----

// What is frozen at 1 may become -128 once it is trained.

!x = tensor<1x400x400x1x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!y = tensor<1x1x1x1x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @infer(%x: !x) -> !y {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<384> : tensor<1x400x400x1xi16>} : () -> tensor<1x400x400x1xi16>
  %b = "tiny.parameter"() {symbol = "b", value = dense<-2147483648> : tensor<1xi32>} : () -> tensor<1xi32>
  // expected-error@+1 {{channel 0: the accumulator can reach 4809883648}}
  %y = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.9999> : tensor<1xf64>} : (!x, tensor<1x400x400x1xi16>, tensor<1xi32>) -> !y
  return %y : !y
}

// -----

!x = tensor<1x4096x4096x1x!quant.uniform<i8:f32, 5.000000e-01:0>>
!y = tensor<1x1x1x1x!quant.uniform<i8:f32, 5.000000e-01:0>>
func.func @infer(%x: !x) -> !y {
  // expected-error@+1 {{the sum of 16777216 values can reach 2147483648, beyond 32 bits}}
  %y = "tiny.global_average_pool"(%x) : (!x) -> !y
  return %y : !y
}
