// RUN: %tiny-opt %s -p tiny-reorder --split-input-file | FileCheck %s

// Updates move up to where their operands exist, so that gradients die early; parameters stand before
// their first use.

!f = tensor<1x1x8x2xf32>
func.func @train_step(%g: !f, %rate: tensor<f32>) -> !f {
  %v = "tiny.parameter"() {symbol = "v", trained, value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %h = "tiny.scale_gradient"(%g) {factor = 2.0 : f32, layer = "a", operandSegmentSizes = array<i32: 1, 0>} : (!f) -> !f
  %i = "tiny.scale_gradient"(%h) {factor = 3.0 : f32, layer = "b", operandSegmentSizes = array<i32: 1, 0>} : (!f) -> !f
  "tiny.bias_update"(%w, %h, %rate) {factors = dense<1.0> : tensor<2xf32>, layer = "b"} : (tensor<2xi32>, !f, tensor<f32>) -> ()
  "tiny.bias_update"(%v, %g, %rate) {factors = dense<1.0> : tensor<2xf32>, layer = "a"} : (tensor<2xi32>, !f, tensor<f32>) -> ()
  return %i : !f
}

// CHECK-LABEL: func.func @train_step(
// CHECK-SAME:    %[[G:.*]]: tensor<1x1x8x2xf32>, %[[RATE:.*]]: tensor<f32>)
// CHECK-SAME:    tiny.stage = "scheduled"
// CHECK-NEXT:    %[[V:.*]] = "tiny.parameter"() {symbol = "v"
// CHECK-NEXT:    "tiny.bias_update"(%[[V]], %[[G]], %[[RATE]])
// CHECK-NEXT:    %[[H:.*]] = "tiny.scale_gradient"(%[[G]])
// CHECK-NEXT:    %[[W:.*]] = "tiny.parameter"() {symbol = "w"
// CHECK-NEXT:    "tiny.bias_update"(%[[W]], %[[H]], %[[RATE]])
// CHECK-NEXT:    %[[I:.*]] = "tiny.scale_gradient"(%[[H]])
// CHECK-NEXT:    return %[[I]]

// -----

// The update must wait for the input gradient, which reads the weight as it was.

!f = tensor<1x1x8x2xf32>
!q = tensor<1x1x8x2x!quant.uniform<i8:f32, 5.000000e-01:0>>
!w = tensor<2x1x1x2xi16>
func.func @train_step(%x: !q, %g: !f, %rate: tensor<f32>) -> !f {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<128> : !w} : () -> !w
  %h = "tiny.conv2d_input_grad"(%g, %w) {groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, scales = dense<1.0> : tensor<2xf32>, strides = array<i64: 1, 1>} : (!f, !w) -> !f
  %i = "tiny.scale_gradient"(%h) {factor = 3.0 : f32, operandSegmentSizes = array<i32: 1, 0>} : (!f) -> !f
  "tiny.conv2d_weight_update"(%w, %x, %g, %rate) {factors = dense<1.0> : tensor<2xf32>, groups = 1 : i64, pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (!w, !q, !f, tensor<f32>) -> ()
  return %i : !f
}

// CHECK-LABEL: func.func @train_step(
// CHECK-NEXT:    %[[W:.*]] = "tiny.parameter"
// CHECK-NEXT:    %[[H:.*]] = "tiny.conv2d_input_grad"(%{{.*}}, %[[W]])
// CHECK-NEXT:    "tiny.conv2d_weight_update"(%[[W]]
// CHECK-NEXT:    "tiny.scale_gradient"(%[[H]])

// -----

// The copy of one channel is made while its source is alive, and the large values are made one at a
// time: each is reduced before the next, so 64 + 64 bytes and not three times 64 are live at once.

!q = tensor<1x1x8x8x!quant.uniform<i8:f32, 5.000000e-01:0>>
!c = tensor<1x1x1x8x!quant.uniform<i8:f32, 5.000000e-01:0>>
func.func @infer(%x: !q) -> (!c, !c, !c) {
  %a = "tiny.gather_channels"(%x) {channels = array<i64: 7, 6, 5, 4, 3, 2, 1, 0>, layer = "a"} : (!q) -> !q
  %b = "tiny.gather_channels"(%x) {channels = array<i64: 1, 0, 3, 2, 5, 4, 7, 6>, layer = "b"} : (!q) -> !q
  %c = "tiny.gather_channels"(%x) {channels = array<i64: 4, 5, 6, 7, 0, 1, 2, 3>, layer = "c"} : (!q) -> !q
  %p = "tiny.global_average_pool"(%a) {layer = "a"} : (!q) -> !c
  %r = "tiny.global_average_pool"(%b) {layer = "b"} : (!q) -> !c
  %s = "tiny.global_average_pool"(%c) {layer = "c"} : (!q) -> !c
  return %p, %r, %s : !c, !c, !c
}

// CHECK-LABEL: func.func @infer(
// CHECK-NEXT:    "tiny.gather_channels"{{.*}}layer = "a"
// CHECK-NEXT:    "tiny.global_average_pool"{{.*}}layer = "a"
// CHECK-NEXT:    "tiny.gather_channels"{{.*}}layer = "b"
// CHECK-NEXT:    "tiny.global_average_pool"{{.*}}layer = "b"
// CHECK-NEXT:    "tiny.gather_channels"{{.*}}layer = "c"
// CHECK-NEXT:    "tiny.global_average_pool"{{.*}}layer = "c"

// -----

// No update stands before the loss, even where its operands are there earlier: a device that rejects
// a loss has changed nothing.

!f = tensor<1x1x8x2xf32>
func.func @train_step(%g: !f, %logits: tensor<1x3xf32>, %label: tensor<i32>, %rate: tensor<f32>) -> (tensor<f32>, tensor<1x3xf32>) {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %loss = "tiny.softmax_cross_entropy"(%logits, %label) {layer = "loss"} : (tensor<1x3xf32>, tensor<i32>) -> tensor<f32>
  "tiny.bias_update"(%w, %g, %rate) {factors = dense<1.0> : tensor<2xf32>, layer = "a"} : (tensor<2xi32>, !f, tensor<f32>) -> ()
  return %loss, %logits : tensor<f32>, tensor<1x3xf32>
}

// CHECK-LABEL: func.func @train_step(
// CHECK:         "tiny.softmax_cross_entropy"
// CHECK:         "tiny.bias_update"
// CHECK:         return
