// RUN: %tiny-opt %s -p tiny-differentiate --split-input-file | FileCheck %s

// A chain: gradients in reverse order, none for the input, updates at the end in source order.
// scales = s_x * s_w / s_y = 0.5 * [0.5, 0.25] / 0.25.

!x = tensor<1x4x3x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!y = tensor<1x4x3x2x!quant.uniform<i8:f32, 2.500000e-01:1>>
!p = tensor<1x1x1x2x!quant.uniform<i8:f32, 2.500000e-01:1>>
func.func @infer(%x: !x) -> tensor<1x3xf32> attributes {tiny.model = "chain"} {
  %w = "tiny.parameter"() {layer = "a", symbol = "a.w", value = dense<1> : tensor<2x1x1x2xi8>} : () -> tensor<2x1x1x2xi8>
  %b = "tiny.parameter"() {layer = "a", symbol = "a.b", value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %hw = "tiny.parameter"() {layer = "head", symbol = "head.w", value = dense<1.0> : tensor<3x2xf32>} : () -> tensor<3x2xf32>
  %hb = "tiny.parameter"() {layer = "head", symbol = "head.b", value = dense<1.0> : tensor<3xf32>} : () -> tensor<3xf32>
  %y = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "a", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<[0.5, 0.25]> : tensor<2xf64>} : (!x, tensor<2x1x1x2xi8>, tensor<2xi32>) -> !y
  %p = "tiny.global_average_pool"(%y) {layer = "pool"} : (!y) -> !p
  %f = "tiny.dequantize"(%p) {layer = "float"} : (!p) -> tensor<1x1x1x2xf32>
  %l = "tiny.linear"(%f, %hw, %hb) {layer = "head"} : (tensor<1x1x1x2xf32>, tensor<3x2xf32>, tensor<3xf32>) -> tensor<1x3xf32>
  return %l : tensor<1x3xf32>
}

// CHECK-LABEL: func.func @train_step(
// CHECK-SAME:    %[[X:.*]]: tensor<1x4x3x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>,
// CHECK-SAME:    %[[LABEL:.*]]: tensor<i32>, %[[RATE:.*]]: tensor<f32>) -> (tensor<f32>, tensor<1x3xf32>)
// CHECK-SAME:    attributes {tiny.model = "chain", tiny.stage = "train"}
// CHECK-NEXT:    %[[W:.*]] = "tiny.parameter"() {layer = "a", symbol = "a.w", trained,
// CHECK-NEXT:    %[[B:.*]] = "tiny.parameter"() {layer = "a", symbol = "a.b", trained,
// CHECK-NEXT:    %[[HW:.*]] = "tiny.parameter"() {layer = "head", symbol = "head.w", trained,
// CHECK-NEXT:    %[[HB:.*]] = "tiny.parameter"() {layer = "head", symbol = "head.b", trained,
// CHECK-NEXT:    %[[Y:.*]]:2 = "tiny.conv2d"(%[[X]], %[[W]], %[[B]]){{.*}}resultSegmentSizes = array<i32: 1, 1>{{.*}}, tensor<1x4x3x2xi1>)
// CHECK-NEXT:    %[[P:.*]] = "tiny.global_average_pool"(%[[Y]]#0)
// CHECK-NEXT:    %[[F:.*]] = "tiny.dequantize"(%[[P]])
// CHECK-NEXT:    %[[L:.*]] = "tiny.linear"(%[[F]], %[[HW]], %[[HB]])
// CHECK-NEXT:    %[[LOSS:.*]] = "tiny.softmax_cross_entropy"(%[[L]], %[[LABEL]]) {layer = "head"}
// CHECK-NEXT:    %[[GL:.*]] = "tiny.softmax_cross_entropy_grad"(%[[L]], %[[LABEL]]) {layer = "head"}
// CHECK-NEXT:    %[[GF:.*]] = "tiny.linear_input_grad"(%[[GL]], %[[HW]]) {layer = "head"}
// CHECK-NEXT:    %[[GHW:.*]] = "tiny.linear_weight_grad"(%[[F]], %[[GL]]) {layer = "head"}
// CHECK-NEXT:    %[[GHB:.*]] = "tiny.bias_grad"(%[[GL]]) {layer = "head", scales = dense<1.000000e+00> : tensor<3xf32>}
// CHECK-NEXT:    %[[GP:.*]] = "tiny.scale_gradient"(%[[GF]]) {factor = 2.500000e-01 : f32, layer = "float"
// CHECK-NEXT:    %[[GY:.*]] = "tiny.global_average_pool_grad"(%[[GP]]) {layer = "pool"}
// CHECK-NEXT:    %[[GM:.*]] = "tiny.scale_gradient"(%[[GY]], %[[Y]]#1) {factor = 1.000000e+00 : f32, layer = "a"
// CHECK-NEXT:    %[[GW:.*]] = "tiny.conv2d_weight_grad"(%[[X]], %[[GM]]) {{.*}}scales = dense<[1.000000e+00, 5.000000e-01]> : tensor<2xf32>
// CHECK-NEXT:    %[[GB:.*]] = "tiny.bias_grad"(%[[GM]]) {{.*}}scales = dense<[1.000000e+00, 5.000000e-01]> : tensor<2xf32>
// CHECK-NEXT:    "tiny.apply_update"(%[[W]], %[[GW]], %[[RATE]]) {factors = dense<1.000000e+00> : tensor<2xf32>, layer = "a"}
// CHECK-NEXT:    "tiny.apply_update"(%[[B]], %[[GB]], %[[RATE]]) {factors = dense<1.000000e+00> : tensor<2xf32>, layer = "a"}
// CHECK-NEXT:    "tiny.apply_update"(%[[HW]], %[[GHW]], %[[RATE]]) {factors = dense<1.000000e+00> : tensor<3xf32>, layer = "head"}
// CHECK-NEXT:    "tiny.apply_update"(%[[HB]], %[[GHB]], %[[RATE]]) {factors = dense<1.000000e+00> : tensor<3xf32>, layer = "head"}
// CHECK-NEXT:    return %[[LOSS]], %[[L]]

// -----

// A residual: the output of `a` feeds both `b` and the sum, so its two gradients are added. The
// returned logits are quantized: they are dequantized, in the layer that produced them.

!x = tensor<1x4x3x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!y = tensor<1x4x3x2x!quant.uniform<i8:f32, 2.500000e-01:1>>
!p = tensor<1x1x1x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @infer(%x: !x) -> !p {
  %wa = "tiny.parameter"() {symbol = "a.w", value = dense<1> : tensor<2x1x1x2xi8>} : () -> tensor<2x1x1x2xi8>
  %ba = "tiny.parameter"() {symbol = "a.b", value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %a = "tiny.conv2d"(%x, %wa, %ba) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "a", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<[0.5, 0.25]> : tensor<2xf64>} : (!x, tensor<2x1x1x2xi8>, tensor<2xi32>) -> !y
  %wb = "tiny.parameter"() {symbol = "b.w", value = dense<1> : tensor<2x3x1x1xi8>} : () -> tensor<2x3x1x1xi8>
  %bb = "tiny.parameter"() {symbol = "b.b", value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %b = "tiny.conv2d"(%a, %wb, %bb) {clamp = array<i64: -128, 127>, groups = 2 : i64, layer = "b", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<[0.5, 0.25]> : tensor<2xf64>} : (!y, tensor<2x3x1x1xi8>, tensor<2xi32>) -> !y
  %s = "tiny.add"(%a, %b) {clamp = array<i64: -128, 127>, layer = "sum", resultSegmentSizes = array<i32: 1, 0>} : (!y, !y) -> !x
  %p = "tiny.global_average_pool"(%s) {layer = "pool"} : (!x) -> !p
  return %p : !p
}

// CHECK-LABEL: func.func @train_step
// CHECK-SAME:    -> (tensor<f32>, tensor<1x1x1x2xf32>)
// CHECK:         %[[A:.*]]:2 = "tiny.conv2d"
// CHECK:         %[[WB:.*]] = "tiny.parameter"() {symbol = "b.w", trained
// CHECK:         %[[B:.*]]:2 = "tiny.conv2d"
// CHECK:         %[[S:.*]]:2 = "tiny.add"(%[[A]]#0, %[[B]]#0)
// CHECK-NEXT:    %[[P:.*]] = "tiny.global_average_pool"(%[[S]]#0)
// CHECK-NEXT:    %[[F:.*]] = "tiny.dequantize"(%[[P]]) {layer = "pool"}
// CHECK-NEXT:    "tiny.softmax_cross_entropy"(%[[F]]
// CHECK:         %[[GS:.*]] = "tiny.global_average_pool_grad"
// CHECK-NEXT:    %[[GA:.*]] = "tiny.scale_gradient"(%[[GS]], %[[S]]#1) {factor = 5.000000e-01 : f32, layer = "sum"
// CHECK-NEXT:    %[[GB:.*]] = "tiny.scale_gradient"(%[[GS]], %[[S]]#1) {factor = 5.000000e-01 : f32, layer = "sum"
// CHECK-NEXT:    %[[GBM:.*]] = "tiny.scale_gradient"(%[[GB]], %[[B]]#1) {factor = 1.000000e+00 : f32, layer = "b"
// CHECK-NEXT:    %[[GBX:.*]] = "tiny.conv2d_input_grad"(%[[GBM]], %[[WB]]) {groups = 2 : i64, layer = "b", {{.*}}pads = array<i64: 1, 0, 1, 0>, scales = dense<[5.000000e-01, 2.500000e-01]>
// CHECK-NEXT:    "tiny.conv2d_weight_grad"(%[[A]]#0, %[[GBM]])
// CHECK-NEXT:    "tiny.bias_grad"(%[[GBM]])
// CHECK-NEXT:    %[[SUM:.*]] = "tiny.add_gradients"(%[[GA]], %[[GBX]]) {layer = "a"}
// CHECK-NEXT:    "tiny.scale_gradient"(%[[SUM]], %[[A]]#1) {factor = 1.000000e+00 : f32, layer = "a"

// -----

// One op uses a value twice, and what no parameter lies behind, or what never reaches the logits,
// has neither gradient nor mask.

!x = tensor<1x4x3x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!p = tensor<1x1x1x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @infer(%x: !x) -> !p {
  %xx = "tiny.add"(%x, %x) {clamp = array<i64: -128, 127>, layer = "before", resultSegmentSizes = array<i32: 1, 0>} : (!x, !x) -> !x
  %p = "tiny.global_average_pool"(%xx) {layer = "pool"} : (!x) -> !p
  %w = "tiny.parameter"() {symbol = "a.w", value = dense<1> : tensor<2x1x1x2xi8>} : () -> tensor<2x1x1x2xi8>
  %b = "tiny.parameter"() {symbol = "a.b", value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %a = "tiny.conv2d"(%p, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "a", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<[0.5, 0.25]> : tensor<2xf64>} : (!p, tensor<2x1x1x2xi8>, tensor<2xi32>) -> !p
  %dead = "tiny.add"(%a, %a) {clamp = array<i64: -128, 127>, layer = "dead", resultSegmentSizes = array<i32: 1, 0>} : (!p, !p) -> !p
  %s = "tiny.add"(%a, %a) {clamp = array<i64: -128, 127>, layer = "sum", resultSegmentSizes = array<i32: 1, 0>} : (!p, !p) -> !p
  return %s : !p
}

// CHECK-LABEL: func.func @train_step
// CHECK:         "tiny.add"{{.*}}layer = "before", resultSegmentSizes = array<i32: 1, 0>
// CHECK:         %[[A:.*]]:2 = "tiny.conv2d"
// CHECK:         "tiny.add"{{.*}}layer = "dead", resultSegmentSizes = array<i32: 1, 0>
// CHECK:         %[[S:.*]]:2 = "tiny.add"(%[[A]]#0, %[[A]]#0)
// CHECK:         %[[G1:.*]] = "tiny.scale_gradient"(%[[G:.*]], %[[S]]#1)
// CHECK-NEXT:    %[[G2:.*]] = "tiny.scale_gradient"(%[[G]], %[[S]]#1)
// CHECK-NEXT:    %[[SUM:.*]] = "tiny.add_gradients"(%[[G1]], %[[G2]])
// CHECK-NEXT:    %[[GM:.*]] = "tiny.scale_gradient"(%[[SUM]], %[[A]]#1)
// CHECK-NEXT:    "tiny.conv2d_weight_grad"
// CHECK-NEXT:    "tiny.bias_grad"
// CHECK-NEXT:    "tiny.apply_update"
// CHECK-NEXT:    "tiny.apply_update"
// CHECK-NEXT:    return

// -----

// A parameter that two layers share has one update, with the sum of their gradients; one that
// nothing reads stays a constant.

!p = tensor<1x1x1x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @infer(%x: !p) -> !p {
  %w = "tiny.parameter"() {symbol = "w", value = dense<1> : tensor<2x1x1x2xi8>} : () -> tensor<2x1x1x2xi8>
  %b = "tiny.parameter"() {symbol = "b", value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %unused = "tiny.parameter"() {symbol = "unused", value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %a = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "a", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<[0.5, 0.25]> : tensor<2xf64>} : (!p, tensor<2x1x1x2xi8>, tensor<2xi32>) -> !p
  %c = "tiny.conv2d"(%a, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "c", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<[0.5, 0.25]> : tensor<2xf64>} : (!p, tensor<2x1x1x2xi8>, tensor<2xi32>) -> !p
  return %c : !p
}

// CHECK-LABEL: func.func @train_step
// CHECK:         %[[W:.*]] = "tiny.parameter"() {symbol = "w", trained
// CHECK-NEXT:    %[[B:.*]] = "tiny.parameter"() {symbol = "b", trained
// CHECK-NEXT:    "tiny.parameter"() {symbol = "unused", value
// CHECK:         %[[GW:.*]] = "tiny.add_gradients"{{.*}} -> tensor<2x1x1x2xf32>
// CHECK:         %[[GB:.*]] = "tiny.add_gradients"{{.*}} -> tensor<2xf32>
// CHECK-NEXT:    "tiny.apply_update"(%[[W]], %[[GW]]
// CHECK-NEXT:    "tiny.apply_update"(%[[B]], %[[GB]]
// CHECK-NEXT:    return
