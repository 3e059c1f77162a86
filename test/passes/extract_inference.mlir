// RUN: %tiny-opt %s -p tiny-extract-inference | FileCheck %s
// RUN: not %tiny-opt %s -p tiny-extract-inference,tiny-extract-inference 2>&1 | FileCheck %s --check-prefix=TWICE

// The forward part of the step: no loss, no mask, no copy of channels; the parameters are those of
// the step, trained marks included. The step stays as it is.

!x = tensor<1x4x3x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!s = tensor<1x4x3x1x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!p = tensor<1x1x1x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @train_step(%x: !x, %label: tensor<i32>, %rate: tensor<f32>) -> (tensor<f32>, tensor<1x1x1x2xf32>) attributes {tiny.model = "m", tiny.stage = "scaled"} {
  %copied = "tiny.gather_channels"(%x) {channels = array<i64: 1>, layer = "a"} : (!x) -> !s
  %w = "tiny.parameter"() {symbol = "a.w", value = dense<1> : tensor<2x1x1x2xi8>} : () -> tensor<2x1x1x2xi8>
  %t = "tiny.parameter"() {symbol = "a.w.trained", trained, value = dense<384> : tensor<2x1x1x1xi16>} : () -> tensor<2x1x1x1xi16>
  %b = "tiny.parameter"() {symbol = "a.b", value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %a, %mask = "tiny.conv2d"(%x, %w, %b, %t) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "a", operandSegmentSizes = array<i32: 1, 1, 1, 1>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>, trained_channels = array<i64: 1>, weight_scales = dense<0.5> : tensor<2xf64>} : (!x, tensor<2x1x1x2xi8>, tensor<2xi32>, tensor<2x1x1x1xi16>) -> (!x, tensor<1x4x3x2xi1>)
  %p = "tiny.global_average_pool"(%a) {layer = "pool"} : (!x) -> !p
  %l = "tiny.dequantize"(%p) {layer = "pool"} : (!p) -> tensor<1x1x1x2xf32>
  %loss = "tiny.softmax_cross_entropy"(%l, %label) : (tensor<1x1x1x2xf32>, tensor<i32>) -> tensor<f32>
  %gl = "tiny.softmax_cross_entropy_grad"(%l, %label) : (tensor<1x1x1x2xf32>, tensor<i32>) -> tensor<1x1x1x2xf32>
  %gp = "tiny.global_average_pool_grad"(%gl) : (tensor<1x1x1x2xf32>) -> tensor<1x4x3x2xf32>
  %ga = "tiny.scale_gradient"(%gp, %mask) {factor = 1.0 : f32, operandSegmentSizes = array<i32: 1, 1>} : (tensor<1x4x3x2xf32>, tensor<1x4x3x2xi1>) -> tensor<1x4x3x2xf32>
  "tiny.conv2d_weight_update"(%t, %copied, %ga, %rate) {factors = dense<1.0> : tensor<2xf32>, groups = 1 : i64, pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<2x1x1x1xi16>, !s, tensor<1x4x3x2xf32>, tensor<f32>) -> ()
  return %loss, %l : tensor<f32>, tensor<1x1x1x2xf32>
}

// CHECK-LABEL: func.func @train_step
// CHECK-NEXT:    "tiny.gather_channels"
// CHECK:         %{{.*}}:2 = "tiny.conv2d"
// CHECK:         "tiny.conv2d_weight_update"
// CHECK-LABEL: func.func @infer(
// CHECK-SAME:    %[[X:.*]]: tensor<1x4x3x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>) -> tensor<1x1x1x2xf32> attributes {tiny.model = "m", tiny.stage = "scaled"}
// CHECK-NEXT:    %[[W:.*]] = "tiny.parameter"() {symbol = "a.w", value = dense<1> : tensor<2x1x1x2xi8>}
// CHECK-NEXT:    %[[T:.*]] = "tiny.parameter"() {symbol = "a.w.trained", trained, value = dense<384> : tensor<2x1x1x1xi16>}
// CHECK-NEXT:    %[[B:.*]] = "tiny.parameter"() {symbol = "a.b", value
// CHECK-NEXT:    %[[A:.*]] = "tiny.conv2d"(%[[X]], %[[W]], %[[B]], %[[T]]) {{.*}}resultSegmentSizes = array<i32: 1, 0>
// CHECK-NEXT:    %[[P:.*]] = "tiny.global_average_pool"(%[[A]])
// CHECK-NEXT:    %[[L:.*]] = "tiny.dequantize"(%[[P]])
// CHECK-NEXT:    return %[[L]]

// TWICE: tiny-extract-inference: the module already has @infer
