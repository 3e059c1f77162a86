// RUN: %tiny-opt %s -p tiny-split-prefix,tiny-extract-inference | FileCheck %s
// RUN: not %tiny-opt %s -p tiny-split-prefix,tiny-split-prefix 2>&1 | FileCheck %s --check-prefix=TWICE

// The first layer is frozen: it becomes @prefix, and its result what @train_step and @infer take.

!x = tensor<1x4x3x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!p = tensor<1x1x1x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @train_step(%x: !x, %label: tensor<i32>, %rate: tensor<f32>) -> (tensor<f32>, tensor<1x1x1x2xf32>) attributes {tiny.model = "m", tiny.stage = "scaled"} {
  %w = "tiny.parameter"() {symbol = "a.w", value = dense<1> : tensor<2x1x1x2xi8>} : () -> tensor<2x1x1x2xi8>
  %b = "tiny.parameter"() {symbol = "a.b", value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %c = "tiny.parameter"() {symbol = "b.b", trained, value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %a = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "a", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<2xf64>} : (!x, tensor<2x1x1x2xi8>, tensor<2xi32>) -> !x
  %d = "tiny.conv2d"(%a, %w, %c) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "b", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<2xf64>} : (!x, tensor<2x1x1x2xi8>, tensor<2xi32>) -> !x
  %p = "tiny.global_average_pool"(%d) {layer = "pool"} : (!x) -> !p
  %l = "tiny.dequantize"(%p) {layer = "pool"} : (!p) -> tensor<1x1x1x2xf32>
  %loss = "tiny.softmax_cross_entropy"(%l, %label) : (tensor<1x1x1x2xf32>, tensor<i32>) -> tensor<f32>
  %gl = "tiny.softmax_cross_entropy_grad"(%l, %label) : (tensor<1x1x1x2xf32>, tensor<i32>) -> tensor<1x1x1x2xf32>
  "tiny.bias_update"(%c, %gl, %rate) {factors = dense<1.0> : tensor<2xf32>, layer = "b"} : (tensor<2xi32>, tensor<1x1x1x2xf32>, tensor<f32>) -> ()
  return %loss, %l : tensor<f32>, tensor<1x1x1x2xf32>
}

// CHECK-LABEL: func.func @prefix(
// CHECK-SAME: %[[X:.*]]: tensor<1x4x3x2x!quant
// CHECK-SAME: tiny.model = "m"
// CHECK: %[[Y:.*]] = "tiny.conv2d"(%[[X]]
// CHECK-SAME: layer = "a"
// CHECK-NEXT: return %[[Y]]
// CHECK-LABEL: func.func @train_step(
// CHECK-SAME: %[[A:.*]]: tensor<1x4x3x2x!quant{{.*}}, %[[L:.*]]: tensor<i32>, %[[R:.*]]: tensor<f32>)
// CHECK-NOT: layer = "a"
// CHECK: "tiny.conv2d"(%[[A]]
// CHECK: "tiny.bias_update"(%{{.*}}, %{{.*}}, %[[R]])
// CHECK-LABEL: func.func @infer(
// CHECK-SAME: %[[A:.*]]: tensor<1x4x3x2x!quant
// CHECK: "tiny.conv2d"(%[[A]]
// CHECK-SAME: layer = "b"

// TWICE: the prefix is split off already
