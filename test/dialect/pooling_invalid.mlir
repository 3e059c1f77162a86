// RUN: %tiny-opt %s --split-input-file --verify-diagnostics

// What pools, means, borders, rescalings and reshapes refuse, with the reason at its place.

!x = tensor<1x5x4x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!y = tensor<1x2x2x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @kernel(%x: !x) {
  // expected-error@+1 {{expects two kernel sizes of at least 1, got [2]}}
  %y = "tiny.average_pool2d"(%x) {kernel = array<i64: 2>, pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 2, 2>} : (!x) -> !y
  return
}

// -----

!x = tensor<1x5x4x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!y = tensor<1x2x2x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @shape(%x: !x) {
  // expected-error@+1 {{expects shape [1, 3, 2, 3] behind the windows, got [1, 2, 2, 3]}}
  %y = "tiny.average_pool2d"(%x) {kernel = array<i64: 2, 2>, pads = array<i64: 0, 0, 1, 0>, strides = array<i64: 2, 2>} : (!x) -> !y
  return
}

// -----

!x = tensor<1x5x4x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!y = tensor<1x4x2x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @pads(%x: !x) {
  // expected-error@+1 {{expects pads smaller than kernel [2, 2], got [2, 0, 1, 0]}}
  %y = "tiny.average_pool2d"(%x) {kernel = array<i64: 2, 2>, pads = array<i64: 2, 0, 1, 0>, strides = array<i64: 2, 2>} : (!x) -> !y
  return
}

// -----

!x = tensor<1x5x4x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!y = tensor<1x2x2x3x!quant.uniform<i8:f32, 2.500000e-01:-3>>
func.func @quantization(%x: !x) {
  // expected-error@+1 {{expects equal quantization of x and y}}
  %y = "tiny.max_pool2d"(%x) {kernel = array<i64: 2, 2>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 2, 2>} : (!x) -> !y
  return
}

// -----

!x = tensor<1x13x13x1x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!y = tensor<1x1x1x1x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @taps(%x: !x) {
  // expected-error@+1 {{expects argmax of i16 elements, got tensor<1x1x1x1xi8>}}
  %y, %t = "tiny.max_pool2d"(%x) {kernel = array<i64: 13, 13>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>} : (!x) -> (!y, tensor<1x1x1x1xi8>)
  return
}

// -----

!x = tensor<1x5x4x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @axes(%x: !x) {
  // expected-error@+1 {{expects axes [1, 2], [1] or [2], got [3]}}
  %y = "tiny.mean"(%x) {axes = array<i64: 3>, clamp = array<i64: -128, 127>, resultSegmentSizes = array<i32: 1, 0>} : (!x) -> tensor<1x5x4x1x!quant.uniform<i8:f32, 5.000000e-01:-3>>
  return
}

// -----

!x = tensor<1x5x4x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @kept(%x: !x) {
  // expected-error@+1 {{expects y of shape [1, 5, 1, 3]}}
  %y = "tiny.mean"(%x) {axes = array<i64: 2>, clamp = array<i64: -128, 127>, resultSegmentSizes = array<i32: 1, 0>} : (!x) -> tensor<1x1x1x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>
  return
}

// -----

!x = tensor<1x5x4x3x!quant.uniform<i8:f32, 1.000000e+09:-3>>
func.func @factor(%x: !x) {
  // expected-error@+1 {{has a requantization factor of 2^30 or more}}
  %y = "tiny.requantize"(%x) {clamp = array<i64: -128, 127>, resultSegmentSizes = array<i32: 1, 0>} : (!x) -> tensor<1x5x4x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>
  return
}

// -----

!x = tensor<1x5x4x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @border(%x: !x) {
  // expected-error@+1 {{expects y of shape [1, 6, 4, 3]}}
  %y = "tiny.pad"(%x) {pads = array<i64: 1, 0, 0, 0>} : (!x) -> !x
  return
}

// -----

!x = tensor<1x5x4x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @elements(%x: !x) {
  // expected-error@+1 {{expects as many elements}}
  %y = "tiny.reshape"(%x) : (!x) -> tensor<1x1x1x61x!quant.uniform<i8:f32, 5.000000e-01:-3>>
  return
}

// -----

!g = tensor<1x2x2x3xf32>
func.func @gradient(%g: !g, %tap: tensor<1x2x2x2xi8>) {
  // expected-error@+1 {{expects argmax of shape [1, 2, 2, 3]}}
  %a = "tiny.max_pool2d_grad"(%g, %tap) {kernel = array<i64: 2, 2>, pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 2, 2>} : (!g, tensor<1x2x2x2xi8>) -> tensor<1x5x4x3xf32>
  return
}
