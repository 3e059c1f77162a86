// RUN: %tiny-opt %s | %tiny-opt | FileCheck %s
// RUN: %tiny-opt %s --emit-bytecode | %tiny-opt | FileCheck %s

// Pools, means, borders, rescalings and reshapes print and parse unchanged.

!x = tensor<1x5x4x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!pooled = tensor<1x3x2x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!other = tensor<1x5x4x3x!quant.uniform<i8:f32, 2.500000e-01:7>>
module {
// Overlapping windows, a border on two sides; which tap was the largest is an i8.
func.func @max_pool2d(%x: !x) {
  %y, %tap = "tiny.max_pool2d"(%x) {kernel = array<i64: 3, 2>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 2, 2>} : (!x) -> (!pooled, tensor<1x3x2x3xi8>)
  return
}
// CHECK-LABEL: func.func @max_pool2d(
// CHECK: "tiny.max_pool2d"({{.*}}) {kernel = array<i64: 3, 2>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 2, 2>} : {{.*}} -> (tensor<1x3x2x3x{{.*}}>, tensor<1x3x2x3xi8>)

func.func @average_pool2d(%x: !x) {
  %y = "tiny.average_pool2d"(%x) {kernel = array<i64: 3, 2>, pads = array<i64: 1, 0, 1, 0>, strides = array<i64: 2, 2>} : (!x) -> !pooled
  return
}
// CHECK-LABEL: func.func @average_pool2d(
// CHECK: "tiny.average_pool2d"({{.*}}) {kernel = array<i64: 3, 2>, pads = array<i64: 1, 0, 1, 0>, strides = array<i64: 2, 2>}

// One axis, with a quantization of its own.
func.func @mean(%x: !x) {
  %y, %m = "tiny.mean"(%x) {axes = array<i64: 2>, clamp = array<i64: -128, 100>, resultSegmentSizes = array<i32: 1, 1>} : (!x) -> (tensor<1x5x1x3x!quant.uniform<i8:f32, 1.250000e-01:7>>, tensor<1x5x1x3xi1>)
  return
}
// CHECK-LABEL: func.func @mean(
// CHECK: "tiny.mean"({{.*}}) {axes = array<i64: 2>, clamp = array<i64: -128, 100>, resultSegmentSizes = array<i32: 1, 1>}

func.func @requantize(%x: !x) {
  %y = "tiny.requantize"(%x) {clamp = array<i64: 7, 127>, resultSegmentSizes = array<i32: 1, 0>} : (!x) -> !other
  return
}
// CHECK-LABEL: func.func @requantize(
// CHECK: "tiny.requantize"({{.*}}) {clamp = array<i64: 7, 127>, resultSegmentSizes = array<i32: 1, 0>}

func.func @pad(%x: !x) {
  %y = "tiny.pad"(%x) {pads = array<i64: 1, 0, 0, 2>} : (!x) -> tensor<1x6x6x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>
  return
}
// CHECK-LABEL: func.func @pad(
// CHECK: "tiny.pad"({{.*}}) {pads = array<i64: 1, 0, 0, 2>} : {{.*}} -> tensor<1x6x6x3x{{.*}}>

// Activations, gradients and mantissas alike.
func.func @reshape(%x: !x, %g: tensor<1x5x4x3xf32>, %m: tensor<1x1x1x60xi16>) {
  %a = "tiny.reshape"(%x) : (!x) -> tensor<1x1x1x60x!quant.uniform<i8:f32, 5.000000e-01:-3>>
  %b = "tiny.reshape"(%g) : (tensor<1x5x4x3xf32>) -> tensor<1x1x20x3xf32>
  %c = "tiny.reshape"(%m) : (tensor<1x1x1x60xi16>) -> tensor<1x5x4x3xi16>
  return
}
// CHECK-LABEL: func.func @reshape(
// CHECK-COUNT-3: "tiny.reshape"

func.func @gradients(%g: tensor<1x3x2x3xf32>, %tap: tensor<1x3x2x3xi8>, %m: tensor<1x3x2x3xi16>, %h: tensor<2xi32>) {
  %a = "tiny.max_pool2d_grad"(%g, %tap) {kernel = array<i64: 3, 2>, pads = array<i64: 1, 0, 1, 0>, strides = array<i64: 2, 2>} : (tensor<1x3x2x3xf32>, tensor<1x3x2x3xi8>) -> tensor<1x5x4x3xf32>
  %b = "tiny.average_pool2d_grad"(%g) {kernel = array<i64: 3, 2>, pads = array<i64: 1, 0, 1, 0>, strides = array<i64: 2, 2>} : (tensor<1x3x2x3xf32>) -> tensor<1x5x4x3xf32>
  %c, %ch = "tiny.integer_pool2d_grad"(%m, %h, %tap) {kernel = array<i64: 3, 2>, operandSegmentSizes = array<i32: 1, 1, 1>, pads = array<i64: 1, 0, 1, 0>, shift = 1 : i64, strides = array<i64: 2, 2>} : (tensor<1x3x2x3xi16>, tensor<2xi32>, tensor<1x3x2x3xi8>) -> (tensor<1x5x4x3xi16>, tensor<2xi32>)
  return
}
// CHECK-LABEL: func.func @gradients(
// CHECK-NEXT: "tiny.max_pool2d_grad"
// CHECK-NEXT: "tiny.average_pool2d_grad"
// CHECK-NEXT: "tiny.integer_pool2d_grad"({{.*}}) {kernel = array<i64: 3, 2>, operandSegmentSizes = array<i32: 1, 1, 1>, pads = array<i64: 1, 0, 1, 0>, shift = 1 : i64
}
