// RUN: %tiny-opt %s -p tiny-quantize-gradients | FileCheck %s

// The gradient of a max pool sums mantissas where a tap was the largest: windows of 2 by 2 at stride
// 1 hold a pixel four times, so two bits are shifted out. The 1 / 4 of the average waits as a factor.

!x = tensor<1x4x4x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!m = tensor<1x3x3x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!a = tensor<1x2x2x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
// CHECK-LABEL: func.func @train_step
// CHECK: %[[G:[0-9]+]]:2 = "tiny.integer_linear_input_grad"
// CHECK: %[[R:[0-9]+]] = "tiny.reshape"(%[[G]]#0) {{.*}} -> tensor<1x2x2x2xi16>
// CHECK-NEXT: %[[A:[0-9]+]]:2 = "tiny.integer_pool2d_grad"(%[[R]], %[[G]]#1) {{.*}}shift = 2 : i64
// CHECK-NEXT: %[[M:[0-9]+]]:2 = "tiny.integer_pool2d_grad"(%[[A]]#0, %[[A]]#1, %{{.*}}#1) {{.*}}shift = 2 : i64
// CHECK-NEXT: "tiny.normalize_gradient"(%[[M]]#0, %[[M]]#1, {{.*}}scale = -17
func.func @train_step(%x: !x, %label: tensor<i32>, %rate: tensor<f32>) -> (tensor<f32>, tensor<1x3xf32>) {
  %w = "tiny.parameter"() {symbol = "a.w", value = dense<1> : tensor<2x1x1x2xi8>} : () -> tensor<2x1x1x2xi8>
  %b = "tiny.parameter"() {symbol = "a.b", trained, value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %y, %k = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "a", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<2xf64>} : (!x, tensor<2x1x1x2xi8>, tensor<2xi32>) -> (!x, tensor<1x4x4x2xi1>)
  %p, %t = "tiny.max_pool2d"(%y) {kernel = array<i64: 2, 2>, layer = "max", pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>} : (!x) -> (!m, tensor<1x3x3x2xi8>)
  %q = "tiny.average_pool2d"(%p) {kernel = array<i64: 2, 2>, layer = "mean", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (!m) -> !a
  %r = "tiny.reshape"(%q) {layer = "flat"} : (!a) -> tensor<1x1x1x8x!quant.uniform<i8:f32, 5.000000e-01:-3>>
  %f = "tiny.dequantize"(%r) {layer = "head"} : (tensor<1x1x1x8x!quant.uniform<i8:f32, 5.000000e-01:-3>>) -> tensor<1x1x1x8xf32>
  %hw = "tiny.parameter"() {symbol = "h.w", trained, value = dense<0.5> : tensor<3x8xf32>} : () -> tensor<3x8xf32>
  %hb = "tiny.parameter"() {symbol = "h.b", value = dense<-0.25> : tensor<3xf32>} : () -> tensor<3xf32>
  %logits = "tiny.linear"(%f, %hw, %hb) {layer = "head"} : (tensor<1x1x1x8xf32>, tensor<3x8xf32>, tensor<3xf32>) -> tensor<1x3xf32>
  %loss = "tiny.softmax_cross_entropy"(%logits, %label) {layer = "head"} : (tensor<1x3xf32>, tensor<i32>) -> tensor<f32>
  %gl = "tiny.softmax_cross_entropy_grad"(%logits, %label) {layer = "head"} : (tensor<1x3xf32>, tensor<i32>) -> tensor<1x3xf32>
  %gf = "tiny.linear_input_grad"(%gl, %hw) {layer = "head"} : (tensor<1x3xf32>, tensor<3x8xf32>) -> tensor<1x1x1x8xf32>
  "tiny.linear_weight_update"(%hw, %f, %gl, %rate) {factors = dense<1.0> : tensor<3xf32>, layer = "head"} : (tensor<3x8xf32>, tensor<1x1x1x8xf32>, tensor<1x3xf32>, tensor<f32>) -> ()
  %gr = "tiny.scale_gradient"(%gf) {factor = 0.5 : f32, layer = "head", operandSegmentSizes = array<i32: 1, 0>} : (tensor<1x1x1x8xf32>) -> tensor<1x1x1x8xf32>
  %gq = "tiny.reshape"(%gr) {layer = "flat"} : (tensor<1x1x1x8xf32>) -> tensor<1x2x2x2xf32>
  %gp = "tiny.average_pool2d_grad"(%gq) {kernel = array<i64: 2, 2>, layer = "mean", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x2x2x2xf32>) -> tensor<1x3x3x2xf32>
  %gy = "tiny.max_pool2d_grad"(%gp, %t) {kernel = array<i64: 2, 2>, layer = "max", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x3x3x2xf32>, tensor<1x3x3x2xi8>) -> tensor<1x4x4x2xf32>
  %gk = "tiny.scale_gradient"(%gy, %k) {factor = 1.0 : f32, layer = "a", operandSegmentSizes = array<i32: 1, 1>} : (tensor<1x4x4x2xf32>, tensor<1x4x4x2xi1>) -> tensor<1x4x4x2xf32>
  "tiny.bias_update"(%b, %gk, %rate) {factors = dense<1.0> : tensor<2xf32>, layer = "a"} : (tensor<2xi32>, tensor<1x4x4x2xf32>, tensor<f32>) -> ()
  return %loss, %logits : tensor<f32>, tensor<1x3xf32>
}
