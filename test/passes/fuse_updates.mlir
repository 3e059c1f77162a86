// RUN: %tiny-opt %s -p tiny-fuse-updates --split-input-file | FileCheck %s

// Each gradient is applied where it is produced, behind every reader of the parameter: the weight
// of `a` waits for its input gradient. The scales of a gradient become factors of its update.

!x = tensor<1x4x3x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!g = tensor<1x4x3x2xf32>
func.func @train_step(%x: !x, %g: !g, %rate: tensor<f32>) -> (!x, !g) {
  %w = "tiny.parameter"() {symbol = "a.w", trained, value = dense<1> : tensor<2x1x1x1xi16>} : () -> tensor<2x1x1x1xi16>
  %b = "tiny.parameter"() {symbol = "a.b", trained, value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %y, %mask = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, layer = "a", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<2xf64>} : (!x, tensor<2x1x1x1xi16>, tensor<2xi32>) -> (!x, tensor<1x4x3x2xi1>)
  %gy = "tiny.scale_gradient"(%g, %mask) {factor = 1.0 : f32, operandSegmentSizes = array<i32: 1, 1>} : (!g, tensor<1x4x3x2xi1>) -> !g
  %gw = "tiny.conv2d_weight_grad"(%x, %gy) {groups = 2 : i64, layer = "a", pads = array<i64: 0, 0, 0, 0>, scales = dense<[0.5, 0.25]> : tensor<2xf32>, strides = array<i64: 1, 1>} : (!x, !g) -> tensor<2x1x1x1xf32>
  %gb = "tiny.bias_grad"(%gy) {layer = "a", scales = dense<[0.5, 0.25]> : tensor<2xf32>} : (!g) -> tensor<2xf32>
  %gx = "tiny.conv2d_input_grad"(%gy, %w) {groups = 2 : i64, layer = "a", operandSegmentSizes = array<i32: 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, scales = dense<0.5> : tensor<2xf32>, strides = array<i64: 1, 1>} : (!g, tensor<2x1x1x1xi16>) -> !g
  %later = "tiny.scale_gradient"(%gx) {factor = 1.0 : f32, operandSegmentSizes = array<i32: 1, 0>} : (!g) -> !g
  "tiny.apply_update"(%w, %gw, %rate) {factors = dense<[16.0, 4.0]> : tensor<2xf32>, layer = "a"} : (tensor<2x1x1x1xi16>, tensor<2x1x1x1xf32>, tensor<f32>) -> ()
  "tiny.apply_update"(%b, %gb, %rate) {factors = dense<[3.0, 0.0]> : tensor<2xf32>, layer = "a"} : (tensor<2xi32>, tensor<2xf32>, tensor<f32>) -> ()
  return %y, %later : !x, !g
}

// CHECK-LABEL: func.func @train_step(
// CHECK-SAME:    %[[X:.*]]: tensor<1x4x3x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %[[G:.*]]: tensor<1x4x3x2xf32>, %[[RATE:.*]]: tensor<f32>)
// CHECK-NEXT:    %[[W:.*]] = "tiny.parameter"() {symbol = "a.w"
// CHECK-NEXT:    %[[B:.*]] = "tiny.parameter"() {symbol = "a.b"
// CHECK-NEXT:    %[[Y:.*]]:2 = "tiny.conv2d"
// CHECK-NEXT:    %[[GY:.*]] = "tiny.scale_gradient"(%[[G]], %[[Y]]#1)
// CHECK-NEXT:    "tiny.bias_update"(%[[B]], %[[GY]], %[[RATE]]) {factors = dense<[1.500000e+00, 0.000000e+00]> : tensor<2xf32>, layer = "a"}
// CHECK-NEXT:    %[[GX:.*]] = "tiny.conv2d_input_grad"(%[[GY]], %[[W]])
// CHECK-NEXT:    "tiny.conv2d_weight_update"(%[[W]], %[[X]], %[[GY]], %[[RATE]]) {factors = dense<[8.000000e+00, 1.000000e+00]> : tensor<2xf32>, groups = 2 : i64, layer = "a", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>}
// CHECK-NEXT:    %[[LATER:.*]] = "tiny.scale_gradient"(%[[GX]])
// CHECK-NEXT:    return %[[Y]]#0, %[[LATER]]

// -----

// The float head; a gradient that something else reads stays, and a sum of two gradients, that of a
// shared parameter, keeps its update.

func.func @train_step(%x: tensor<1x3xf32>, %g: tensor<1x2xf32>, %rate: tensor<f32>) -> tensor<2xf32> {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<1.0> : tensor<2x3xf32>} : () -> tensor<2x3xf32>
  %b = "tiny.parameter"() {symbol = "b", trained, value = dense<1.0> : tensor<2xf32>} : () -> tensor<2xf32>
  %shared = "tiny.parameter"() {symbol = "shared", trained, value = dense<1.0> : tensor<2x3xf32>} : () -> tensor<2x3xf32>
  %gw = "tiny.linear_weight_grad"(%x, %g) : (tensor<1x3xf32>, tensor<1x2xf32>) -> tensor<2x3xf32>
  %gb = "tiny.bias_grad"(%g) {scales = dense<1.0> : tensor<2xf32>} : (tensor<1x2xf32>) -> tensor<2xf32>
  %gs = "tiny.add_gradients"(%gw, %gw) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  "tiny.apply_update"(%w, %gw, %rate) {factors = dense<1.0> : tensor<2xf32>} : (tensor<2x3xf32>, tensor<2x3xf32>, tensor<f32>) -> ()
  "tiny.apply_update"(%b, %gb, %rate) {factors = dense<1.0> : tensor<2xf32>} : (tensor<2xf32>, tensor<2xf32>, tensor<f32>) -> ()
  "tiny.apply_update"(%shared, %gs, %rate) {factors = dense<1.0> : tensor<2xf32>} : (tensor<2x3xf32>, tensor<2x3xf32>, tensor<f32>) -> ()
  return %gb : tensor<2xf32>
}

// CHECK-LABEL: func.func @train_step(
// CHECK-SAME:    %[[X:.*]]: tensor<1x3xf32>, %[[G:.*]]: tensor<1x2xf32>, %[[RATE:.*]]: tensor<f32>)
// CHECK-NEXT:    %[[W:.*]] = "tiny.parameter"() {symbol = "w"
// CHECK-NEXT:    "tiny.linear_weight_update"(%[[W]], %[[X]], %[[G]], %[[RATE]]) {factors = dense<1.000000e+00> : tensor<2xf32>}
// CHECK-NEXT:    %[[B:.*]] = "tiny.parameter"() {symbol = "b"
// CHECK-NEXT:    "tiny.bias_update"(%[[B]], %[[G]], %[[RATE]]) {factors = dense<1.000000e+00> : tensor<2xf32>}
// CHECK-NEXT:    %[[SHARED:.*]] = "tiny.parameter"() {symbol = "shared"
// CHECK-NEXT:    %[[GW:.*]] = "tiny.linear_weight_grad"
// CHECK-NEXT:    %[[GB:.*]] = "tiny.bias_grad"
// CHECK-NEXT:    %[[GS:.*]] = "tiny.add_gradients"(%[[GW]], %[[GW]])
// CHECK-NEXT:    "tiny.apply_update"(%[[SHARED]], %[[GS]], %[[RATE]])
// CHECK-NEXT:    return %[[GB]]
