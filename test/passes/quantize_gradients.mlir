// RUN: %tiny-opt %s -p tiny-quantize-gradients --split-input-file | FileCheck %s
// RUN: %tiny-opt %s -p 'tiny-quantize-gradients{bits=8}' --split-input-file | FileCheck %s --check-prefix NARROW

// The head becomes i32, the backward pass mantissas and headers. The scale of the features (0.5) and
// the 1 / (2 * 2) of the pool wait for the next normalized gradient, that of `b`: its multipliers
// hold 0.25 * 0.5 * scales, its updates divide by them. The gradient of `a` has no reader but
// updates: one multiplier for all channels. S of `b` is that of 7 * 2^15: 3 bits more than 15.

!x = tensor<1x2x2x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!pixel = tensor<1x1x1x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!g = tensor<1x2x2x2xf32>
!mask = tensor<1x2x2x2xi1>
func.func @train_step(%x: !x, %label: tensor<i32>, %rate: tensor<f32>) -> (tensor<f32>, tensor<1x3xf32>) {
  %aw = "tiny.parameter"() {symbol = "a.w", trained, value = dense<256> : tensor<2x1x1x2xi16>} : () -> tensor<2x1x1x2xi16>
  %ab = "tiny.parameter"() {symbol = "a.b", value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %ya, %ma = "tiny.conv2d"(%x, %aw, %ab) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "a", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<2xf64>} : (!x, tensor<2x1x1x2xi16>, tensor<2xi32>) -> (!x, !mask)
  %bw = "tiny.parameter"() {symbol = "b.w", value = dense<[[[[3, -2]]], [[[4, 1]]]]> : tensor<2x1x1x2xi8>} : () -> tensor<2x1x1x2xi8>
  %bb = "tiny.parameter"() {symbol = "b.b", trained, value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %yb, %mb = "tiny.conv2d"(%ya, %bw, %bb) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "b", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>, weight_scales = dense<[0.5, 0.25]> : tensor<2xf64>} : (!x, tensor<2x1x1x2xi8>, tensor<2xi32>) -> (!x, !mask)
  %p = "tiny.global_average_pool"(%yb) {layer = "pool"} : (!x) -> !pixel
  %f = "tiny.dequantize"(%p) {layer = "head"} : (!pixel) -> tensor<1x1x1x2xf32>
  %hw = "tiny.parameter"() {symbol = "h.w", trained, value = dense<0.5> : tensor<3x2xf32>} : () -> tensor<3x2xf32>
  %hb = "tiny.parameter"() {symbol = "h.b", trained, value = dense<-0.25> : tensor<3xf32>} : () -> tensor<3xf32>
  %logits = "tiny.linear"(%f, %hw, %hb) {layer = "head"} : (tensor<1x1x1x2xf32>, tensor<3x2xf32>, tensor<3xf32>) -> tensor<1x3xf32>
  %loss = "tiny.softmax_cross_entropy"(%logits, %label) {layer = "head"} : (tensor<1x3xf32>, tensor<i32>) -> tensor<f32>
  %gl = "tiny.softmax_cross_entropy_grad"(%logits, %label) {layer = "head"} : (tensor<1x3xf32>, tensor<i32>) -> tensor<1x3xf32>
  %gf = "tiny.linear_input_grad"(%gl, %hw) {layer = "head"} : (tensor<1x3xf32>, tensor<3x2xf32>) -> tensor<1x1x1x2xf32>
  "tiny.bias_update"(%hb, %gl, %rate) {factors = dense<1.0> : tensor<3xf32>, layer = "head"} : (tensor<3xf32>, tensor<1x3xf32>, tensor<f32>) -> ()
  "tiny.linear_weight_update"(%hw, %f, %gl, %rate) {factors = dense<1.0> : tensor<3xf32>, layer = "head"} : (tensor<3x2xf32>, tensor<1x1x1x2xf32>, tensor<1x3xf32>, tensor<f32>) -> ()
  %gp = "tiny.scale_gradient"(%gf) {factor = 0.5 : f32, layer = "head", operandSegmentSizes = array<i32: 1, 0>} : (tensor<1x1x1x2xf32>) -> tensor<1x1x1x2xf32>
  %gy = "tiny.global_average_pool_grad"(%gp) {layer = "pool"} : (tensor<1x1x1x2xf32>) -> !g
  %gb = "tiny.scale_gradient"(%gy, %mb) {factor = 1.0 : f32, layer = "b", operandSegmentSizes = array<i32: 1, 1>} : (!g, !mask) -> !g
  "tiny.bias_update"(%bb, %gb, %rate) {factors = dense<[2.0, 1.0]> : tensor<2xf32>, layer = "b"} : (tensor<2xi32>, !g, tensor<f32>) -> ()
  %gx = "tiny.conv2d_input_grad"(%gb, %bw) {groups = 1 : i64, layer = "b", operandSegmentSizes = array<i32: 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, scales = dense<[0.5, 0.25]> : tensor<2xf32>, strides = array<i64: 1, 1>} : (!g, tensor<2x1x1x2xi8>) -> !g
  %ga = "tiny.scale_gradient"(%gx, %ma) {factor = 1.0 : f32, layer = "a", operandSegmentSizes = array<i32: 1, 1>} : (!g, !mask) -> !g
  "tiny.conv2d_weight_update"(%aw, %x, %ga, %rate) {factors = dense<[3.0, 0.0]> : tensor<2xf32>, groups = 1 : i64, layer = "a", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<2x1x1x2xi16>, !x, !g, tensor<f32>) -> ()
  return %loss, %logits : tensor<f32>, tensor<1x3xf32>
}
