// RUN: %tiny-opt %s | %tiny-opt | FileCheck %s
// RUN: %tiny-opt %s --emit-bytecode | %tiny-opt | FileCheck %s

// Every backward op prints and parses unchanged, as text and as bytecode.

module {
func.func @softmax_cross_entropy_grad_0(%l: tensor<1x3xf32>, %label: tensor<i32>) {
  %r = "tiny.softmax_cross_entropy_grad"(%l, %label) : (tensor<1x3xf32>, tensor<i32>) -> tensor<1x3xf32>
  return
}
// CHECK-LABEL: func.func @softmax_cross_entropy_grad_0(
// CHECK: "tiny.softmax_cross_entropy_grad"({{.*}}) : (tensor<1x3xf32>, tensor<i32>) -> tensor<1x3xf32>

// Shaped like the forward input.
func.func @linear_input_grad_1(%g: tensor<1x3xf32>, %w: tensor<3x4xf32>) {
  %r = "tiny.linear_input_grad"(%g, %w) : (tensor<1x3xf32>, tensor<3x4xf32>) -> tensor<1x1x1x4xf32>
  return
}
// CHECK-LABEL: func.func @linear_input_grad_1(
// CHECK: "tiny.linear_input_grad"({{.*}}) : (tensor<1x3xf32>, tensor<3x4xf32>) -> tensor<1x1x1x4xf32>

func.func @linear_weight_grad_2(%x: tensor<1x1x1x4xf32>, %g: tensor<1x3xf32>) {
  %r = "tiny.linear_weight_grad"(%x, %g) : (tensor<1x1x1x4xf32>, tensor<1x3xf32>) -> tensor<3x4xf32>
  return
}
// CHECK-LABEL: func.func @linear_weight_grad_2(
// CHECK: "tiny.linear_weight_grad"({{.*}}) : (tensor<1x1x1x4xf32>, tensor<1x3xf32>) -> tensor<3x4xf32>

// With and without a mask.
func.func @scale_gradient_3(%g: tensor<1x2x3x4xf32>) {
  %r = "tiny.scale_gradient"(%g) {factor = 5.000000e-01 : f32, operandSegmentSizes = array<i32: 1, 0>} : (tensor<1x2x3x4xf32>) -> tensor<1x2x3x4xf32>
  return
}
// CHECK-LABEL: func.func @scale_gradient_3(
// CHECK: "tiny.scale_gradient"({{.*}}) {factor = 5.000000e-01 : f32, operandSegmentSizes = array<i32: 1, 0>} : (tensor<1x2x3x4xf32>) -> tensor<1x2x3x4xf32>

func.func @scale_gradient_4(%g: tensor<1x2x3x4xf32>, %m: tensor<1x2x3x4xi1>) {
  %r = "tiny.scale_gradient"(%g, %m) {factor = 5.000000e-01 : f32, operandSegmentSizes = array<i32: 1, 1>} : (tensor<1x2x3x4xf32>, tensor<1x2x3x4xi1>) -> tensor<1x2x3x4xf32>
  return
}
// CHECK-LABEL: func.func @scale_gradient_4(
// CHECK: "tiny.scale_gradient"({{.*}}) {factor = 5.000000e-01 : f32, operandSegmentSizes = array<i32: 1, 1>} : (tensor<1x2x3x4xf32>, tensor<1x2x3x4xi1>) -> tensor<1x2x3x4xf32>

// Of any rank.
func.func @add_gradients_5(%a: tensor<2x3xf32>, %b: tensor<2x3xf32>) {
  %r = "tiny.add_gradients"(%a, %b) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  return
}
// CHECK-LABEL: func.func @add_gradients_5(
// CHECK: "tiny.add_gradients"({{.*}}) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>

func.func @global_average_pool_grad_6(%x: tensor<1x1x1x4xf32>) {
  %r = "tiny.global_average_pool_grad"(%x) : (tensor<1x1x1x4xf32>) -> tensor<1x2x3x4xf32>
  return
}
// CHECK-LABEL: func.func @global_average_pool_grad_6(
// CHECK: "tiny.global_average_pool_grad"({{.*}}) : (tensor<1x1x1x4xf32>) -> tensor<1x2x3x4xf32>

// Grouped; then with trained channels.
func.func @conv2d_input_grad_7(%g: tensor<1x5x4x6xf32>, %w: tensor<6x3x1x2xi8>) {
  %r = "tiny.conv2d_input_grad"(%g, %w) {groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x6xf32>, tensor<6x3x1x2xi8>) -> tensor<1x5x4x4xf32>
  return
}
// CHECK-LABEL: func.func @conv2d_input_grad_7(
// CHECK: "tiny.conv2d_input_grad"({{.*}}) {groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x6xf32>, tensor<6x3x1x2xi8>) -> tensor<1x5x4x4xf32>

func.func @conv2d_input_grad_8(%g: tensor<1x5x4x6xf32>, %w: tensor<6x3x1x2xi8>, %t: tensor<6x3x1x1xi16>) {
  %r = "tiny.conv2d_input_grad"(%g, %w, %t) {groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1>, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>, trained_channels = array<i64: 0>} : (tensor<1x5x4x6xf32>, tensor<6x3x1x2xi8>, tensor<6x3x1x1xi16>) -> tensor<1x5x4x4xf32>
  return
}
// CHECK-LABEL: func.func @conv2d_input_grad_8(
// CHECK: "tiny.conv2d_input_grad"({{.*}}) {groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1>, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>, trained_channels = array<i64: 0>} : (tensor<1x5x4x6xf32>, tensor<6x3x1x2xi8>, tensor<6x3x1x1xi16>) -> tensor<1x5x4x4xf32>

// Whole; then one gathered input channel; then two of four depthwise channels.
func.func @conv2d_weight_grad_9(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %g: tensor<1x5x4x6xf32>) {
  %r = "tiny.conv2d_weight_grad"(%x, %g) {groups = 2 : i64, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x6xf32>) -> tensor<6x3x1x2xf32>
  return
}
// CHECK-LABEL: func.func @conv2d_weight_grad_9(
// CHECK: "tiny.conv2d_weight_grad"({{.*}}) {groups = 2 : i64, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x6xf32>) -> tensor<6x3x1x2xf32>

func.func @conv2d_weight_grad_10(%x: tensor<1x5x4x1x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %g: tensor<1x5x4x6xf32>) {
  %r = "tiny.conv2d_weight_grad"(%x, %g) {groups = 1 : i64, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x1x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x6xf32>) -> tensor<6x3x1x1xf32>
  return
}
// CHECK-LABEL: func.func @conv2d_weight_grad_10(
// CHECK: "tiny.conv2d_weight_grad"({{.*}}) {groups = 1 : i64, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x1x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x6xf32>) -> tensor<6x3x1x1xf32>

func.func @conv2d_weight_grad_11(%x: tensor<1x5x4x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %g: tensor<1x5x4x4xf32>) {
  %r = "tiny.conv2d_weight_grad"(%x, %g) {groups = 2 : i64, output_channels = array<i64: 1, 3>, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<2xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x4xf32>) -> tensor<2x3x1x1xf32>
  return
}
// CHECK-LABEL: func.func @conv2d_weight_grad_11(
// CHECK: "tiny.conv2d_weight_grad"({{.*}}) {groups = 2 : i64, output_channels = array<i64: 1, 3>, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<2xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x4xf32>) -> tensor<2x3x1x1xf32>

func.func @bias_grad_12(%g: tensor<1x5x4x6xf32>) {
  %r = "tiny.bias_grad"(%g) {scales = dense<2.500000e-01> : tensor<6xf32>} : (tensor<1x5x4x6xf32>) -> tensor<6xf32>
  return
}
// CHECK-LABEL: func.func @bias_grad_12(
// CHECK: "tiny.bias_grad"({{.*}}) {scales = dense<2.500000e-01> : tensor<6xf32>} : (tensor<1x5x4x6xf32>) -> tensor<6xf32>

// Of the head.
func.func @bias_grad_13(%g: tensor<1x3xf32>) {
  %r = "tiny.bias_grad"(%g) {scales = dense<1.000000e+00> : tensor<3xf32>} : (tensor<1x3xf32>) -> tensor<3xf32>
  return
}
// CHECK-LABEL: func.func @bias_grad_13(
// CHECK: "tiny.bias_grad"({{.*}}) {scales = dense<1.000000e+00> : tensor<3xf32>} : (tensor<1x3xf32>) -> tensor<3xf32>
}
