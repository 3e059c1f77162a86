// RUN: %tiny-opt %s -p tiny-prune-backward | FileCheck %s
// RUN: %tiny-opt %s -p 'tiny-prune-backward{keep=head.b}' | FileCheck %s --check-prefix=HEAD
// RUN: not %tiny-opt %s -p 'tiny-prune-backward{keep=head.b,a.w}' 2>&1 | FileCheck %s --check-prefix=UNKNOWN

!x = tensor<1x4x3x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!p = tensor<1x1x1x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!s = tensor<1x4x3x1x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!g = tensor<1x4x3x2xf32>
func.func @train_step(%x: !x, %label: tensor<i32>, %rate: tensor<f32>) -> (tensor<f32>, tensor<1x2xf32>) attributes {tiny.stage = "train"} {
  %copied = "tiny.gather_channels"(%x) {channels = array<i64: 1>} : (!x) -> !s
  %aw = "tiny.parameter"() {symbol = "a.w", value = dense<1> : tensor<2x1x1x2xi8>} : () -> tensor<2x1x1x2xi8>
  %ab = "tiny.parameter"() {symbol = "a.b", value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %bw = "tiny.parameter"() {symbol = "b.w", value = dense<1> : tensor<2x1x1x2xi8>} : () -> tensor<2x1x1x2xi8>
  %bb = "tiny.parameter"() {symbol = "b.b", trained, value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %hw = "tiny.parameter"() {symbol = "head.w", value = dense<1.0> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
  %hb = "tiny.parameter"() {symbol = "head.b", trained, value = dense<1.0> : tensor<2xf32>} : () -> tensor<2xf32>
  %unread = "tiny.parameter"() {symbol = "unread", value = dense<1.0> : tensor<2xf32>} : () -> tensor<2xf32>
  %a, %amask = "tiny.conv2d"(%x, %aw, %ab) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "a", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<2xf64>} : (!x, tensor<2x1x1x2xi8>, tensor<2xi32>) -> (!x, tensor<1x4x3x2xi1>)
  %b, %bmask = "tiny.conv2d"(%a, %bw, %bb) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "b", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<2xf64>} : (!x, tensor<2x1x1x2xi8>, tensor<2xi32>) -> (!x, tensor<1x4x3x2xi1>)
  %s, %smask = "tiny.add"(%a, %b) {clamp = array<i64: -128, 127>, layer = "sum", resultSegmentSizes = array<i32: 1, 1>} : (!x, !x) -> (!x, tensor<1x4x3x2xi1>)
  %p = "tiny.global_average_pool"(%s) {layer = "pool"} : (!x) -> !p
  %f = "tiny.dequantize"(%p) {layer = "float"} : (!p) -> tensor<1x1x1x2xf32>
  %l = "tiny.linear"(%f, %hw, %hb) {layer = "head"} : (tensor<1x1x1x2xf32>, tensor<2x2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  %loss = "tiny.softmax_cross_entropy"(%l, %label) : (tensor<1x2xf32>, tensor<i32>) -> tensor<f32>
  %gl = "tiny.softmax_cross_entropy_grad"(%l, %label) : (tensor<1x2xf32>, tensor<i32>) -> tensor<1x2xf32>
  %gf = "tiny.linear_input_grad"(%gl, %hw) : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x1x1x2xf32>
  %ghw = "tiny.linear_weight_grad"(%f, %gl) : (tensor<1x1x1x2xf32>, tensor<1x2xf32>) -> tensor<2x2xf32>
  %ghb = "tiny.bias_grad"(%gl) {scales = dense<1.0> : tensor<2xf32>} : (tensor<1x2xf32>) -> tensor<2xf32>
  %gp = "tiny.scale_gradient"(%gf) {factor = 0.5 : f32, operandSegmentSizes = array<i32: 1, 0>} : (tensor<1x1x1x2xf32>) -> tensor<1x1x1x2xf32>
  %gs = "tiny.global_average_pool_grad"(%gp) : (tensor<1x1x1x2xf32>) -> !g
  %gs1 = "tiny.scale_gradient"(%gs, %smask) {factor = 1.0 : f32, operandSegmentSizes = array<i32: 1, 1>} : (!g, tensor<1x4x3x2xi1>) -> !g
  %gs2 = "tiny.scale_gradient"(%gs, %smask) {factor = 1.0 : f32, operandSegmentSizes = array<i32: 1, 1>} : (!g, tensor<1x4x3x2xi1>) -> !g
  %gb = "tiny.scale_gradient"(%gs2, %bmask) {factor = 1.0 : f32, operandSegmentSizes = array<i32: 1, 1>} : (!g, tensor<1x4x3x2xi1>) -> !g
  %gbx = "tiny.conv2d_input_grad"(%gb, %bw) {groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, scales = dense<0.5> : tensor<2xf32>, strides = array<i64: 1, 1>} : (!g, tensor<2x1x1x2xi8>) -> !g
  %gbb = "tiny.bias_grad"(%gb) {scales = dense<0.5> : tensor<2xf32>} : (!g) -> tensor<2xf32>
  %sum = "tiny.add_gradients"(%gs1, %gbx) : (!g, !g) -> !g
  %ga = "tiny.scale_gradient"(%sum, %amask) {factor = 1.0 : f32, operandSegmentSizes = array<i32: 1, 1>} : (!g, tensor<1x4x3x2xi1>) -> !g
  %gaw = "tiny.conv2d_weight_grad"(%copied, %ga) {groups = 1 : i64, pads = array<i64: 0, 0, 0, 0>, scales = dense<0.5> : tensor<2xf32>, strides = array<i64: 1, 1>} : (!s, !g) -> tensor<2x1x1x1xf32>
  "tiny.apply_update"(%bb, %gbb, %rate) {factors = dense<1.0> : tensor<2xf32>} : (tensor<2xi32>, tensor<2xf32>, tensor<f32>) -> ()
  "tiny.apply_update"(%hb, %ghb, %rate) {factors = dense<1.0> : tensor<2xf32>} : (tensor<2xf32>, tensor<2xf32>, tensor<f32>) -> ()
  return %loss, %l : tensor<f32>, tensor<1x2xf32>
}

// Only the biases of `b` and of the head are updated: the backward pass stops at `b`, so the mask of
// `a`, the copied channels, the sum at the fan-out and the parameter that nothing reads are gone.

// CHECK-LABEL: func.func @train_step
// CHECK-SAME:    tiny.stage = "sparse"
// CHECK-NEXT:    "tiny.parameter"() {symbol = "a.w", value
// CHECK-NEXT:    "tiny.parameter"() {symbol = "a.b", value
// CHECK-NEXT:    "tiny.parameter"() {symbol = "b.w", value
// CHECK-NEXT:    %[[BB:.*]] = "tiny.parameter"() {symbol = "b.b", trained
// CHECK-NEXT:    "tiny.parameter"() {symbol = "head.w", value
// CHECK-NEXT:    %[[HB:.*]] = "tiny.parameter"() {symbol = "head.b", trained
// CHECK-NEXT:    %[[A:.*]] = "tiny.conv2d"({{.*}}layer = "a"{{.*}}resultSegmentSizes = array<i32: 1, 0>
// CHECK-NEXT:    %[[B:.*]]:2 = "tiny.conv2d"(%[[A]],{{.*}}layer = "b"{{.*}}resultSegmentSizes = array<i32: 1, 1>
// CHECK-NEXT:    %[[S:.*]]:2 = "tiny.add"(%[[A]], %[[B]]#0)
// CHECK-NEXT:    "tiny.global_average_pool"(%[[S]]#0)
// CHECK-NEXT:    "tiny.dequantize"
// CHECK-NEXT:    "tiny.linear"
// CHECK-NEXT:    "tiny.softmax_cross_entropy"
// CHECK-NEXT:    %[[GL:.*]] = "tiny.softmax_cross_entropy_grad"
// CHECK-NEXT:    "tiny.linear_input_grad"(%[[GL]]
// CHECK-NEXT:    %[[GHB:.*]] = "tiny.bias_grad"(%[[GL]])
// CHECK-NEXT:    "tiny.scale_gradient"
// CHECK-NEXT:    %[[GS:.*]] = "tiny.global_average_pool_grad"
// CHECK-NEXT:    %[[GS2:.*]] = "tiny.scale_gradient"(%[[GS]], %[[S]]#1)
// CHECK-NEXT:    %[[GB:.*]] = "tiny.scale_gradient"(%[[GS2]], %[[B]]#1)
// CHECK-NEXT:    %[[GBB:.*]] = "tiny.bias_grad"(%[[GB]])
// CHECK-NEXT:    "tiny.apply_update"(%[[BB]], %[[GBB]]
// CHECK-NEXT:    "tiny.apply_update"(%[[HB]], %[[GHB]]
// CHECK-NEXT:    return

// With `keep` the other updates go too, and what they wrote becomes a constant; no mask is left.

// HEAD-LABEL:  func.func @train_step
// HEAD:          "tiny.parameter"() {symbol = "b.b", value
// HEAD:          "tiny.parameter"() {symbol = "head.b", trained
// HEAD-COUNT-2:  "tiny.conv2d"({{.*}}resultSegmentSizes = array<i32: 1, 0>
// HEAD-NEXT:     "tiny.add"({{.*}}resultSegmentSizes = array<i32: 1, 0>
// HEAD:          "tiny.softmax_cross_entropy_grad"
// HEAD-NEXT:     "tiny.bias_grad"
// HEAD-NEXT:     "tiny.apply_update"
// HEAD-NEXT:     return

// UNKNOWN: tiny-prune-backward: keep names a.w; the step updates b.b, head.b
