// RUN: %tiny-opt %s | %tiny-opt | FileCheck %s
// RUN: %tiny-opt %s --emit-bytecode | %tiny-opt | FileCheck %s

// Every forward op prints and parses unchanged, as text and as bytecode.

module {
// Grouped, asymmetric pads, non-square.
func.func @conv2d_0(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}
// CHECK-LABEL: func.func @conv2d_0(
// CHECK: "tiny.conv2d"({{.*}}) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>

// A mask, an int16 master and two trained input channels a group.
func.func @conv2d_1(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi16>, %b: tensor<6xi32>, %t: tensor<6x3x1x1xi16>) {
  %r:2 = "tiny.conv2d"(%x, %w, %b, %t) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>, trained_channels = array<i64: 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi16>, tensor<6xi32>, tensor<6x3x1x1xi16>) -> (tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>, tensor<1x5x4x6xi1>)
  return
}
// CHECK-LABEL: func.func @conv2d_1(
// CHECK: "tiny.conv2d"({{.*}}) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>, trained_channels = array<i64: 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi16>, tensor<6xi32>, tensor<6x3x1x1xi16>) -> (tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>, tensor<1x5x4x6xi1>)

// Depthwise: channels are chosen by output; strided, one dimension.
func.func @conv2d_2(%x: tensor<1x1x9x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<3x1x5x1xi8>, %b: tensor<3xi32>, %t: tensor<2x1x5x1xf32>) {
  %r = "tiny.conv2d"(%x, %w, %b, %t) {clamp = array<i64: -128, 127>, groups = 3 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1>, pads = array<i64: 0, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 2>, trained_channels = array<i64: 0, 2>, weight_scales = dense<[1.000000e-01, 2.000000e-01, 3.000000e-01]> : tensor<3xf64>} : (tensor<1x1x9x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<3x1x5x1xi8>, tensor<3xi32>, tensor<2x1x5x1xf32>) -> tensor<1x1x4x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>
  return
}
// CHECK-LABEL: func.func @conv2d_2(
// CHECK: "tiny.conv2d"({{.*}}) {clamp = array<i64: -128, 127>, groups = 3 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1>, pads = array<i64: 0, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 2>, trained_channels = array<i64: 0, 2>, weight_scales = dense<[1.000000e-01, 2.000000e-01, 3.000000e-01]> : tensor<3xf64>} : (tensor<1x1x9x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<3x1x5x1xi8>, tensor<3xi32>, tensor<2x1x5x1xf32>) -> tensor<1x1x4x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>

// A trained parameter, and a splat.
func.func @parameter_3() {
  %r = "tiny.parameter"() {symbol = "head.w", trained, value = dense<[[1.000000e+00, 2.000000e+00], [3.000000e+00, 4.000000e+00]]> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
  return
}
// CHECK-LABEL: func.func @parameter_3(
// CHECK: "tiny.parameter"() {symbol = "head.w", trained, value = dense<[[1.000000e+00, 2.000000e+00], [3.000000e+00, 4.000000e+00]]> : tensor<2x2xf32>} : () -> tensor<2x2xf32>

func.func @parameter_4() {
  %r = "tiny.parameter"() {symbol = "a.w", value = dense<384> : tensor<4xi16>} : () -> tensor<4xi16>
  return
}
// CHECK-LABEL: func.func @parameter_4(
// CHECK: "tiny.parameter"() {symbol = "a.w", value = dense<384> : tensor<4xi16>} : () -> tensor<4xi16>

// Operands of different quantization.
func.func @add_5(%a: tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %b: tensor<1x2x3x4x!quant.uniform<i8:f32, 2.500000e-01:7>>) {
  %r:2 = "tiny.add"(%a, %b) {clamp = array<i64: -128, 100>, resultSegmentSizes = array<i32: 1, 1>} : (tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x2x3x4x!quant.uniform<i8:f32, 2.500000e-01:7>>) -> (tensor<1x2x3x4x!quant.uniform<i8:f32, 1.000000e+00>>, tensor<1x2x3x4xi1>)
  return
}
// CHECK-LABEL: func.func @add_5(
// CHECK: "tiny.add"({{.*}}) {clamp = array<i64: -128, 100>, resultSegmentSizes = array<i32: 1, 1>} : (tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x2x3x4x!quant.uniform<i8:f32, 2.500000e-01:7>>) -> (tensor<1x2x3x4x!quant.uniform<i8:f32, 1.000000e+00>>, tensor<1x2x3x4xi1>)

func.func @global_average_pool_6(%x: tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) {
  %r = "tiny.global_average_pool"(%x) : (tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) -> tensor<1x1x1x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>
  return
}
// CHECK-LABEL: func.func @global_average_pool_6(
// CHECK: "tiny.global_average_pool"({{.*}}) : (tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) -> tensor<1x1x1x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>

// In any order.
func.func @gather_channels_7(%x: tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) {
  %r = "tiny.gather_channels"(%x) {channels = array<i64: 3, 1>} : (tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) -> tensor<1x2x3x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
  return
}
// CHECK-LABEL: func.func @gather_channels_7(
// CHECK: "tiny.gather_channels"({{.*}}) {channels = array<i64: 3, 1>} : (tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) -> tensor<1x2x3x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>

func.func @dequantize_8(%x: tensor<1x1x1x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) {
  %r = "tiny.dequantize"(%x) : (tensor<1x1x1x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) -> tensor<1x1x1x4xf32>
  return
}
// CHECK-LABEL: func.func @dequantize_8(
// CHECK: "tiny.dequantize"({{.*}}) : (tensor<1x1x1x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) -> tensor<1x1x1x4xf32>

// The input is flattened.
func.func @linear_9(%x: tensor<1x1x2x2xf32>, %w: tensor<3x4xf32>, %b: tensor<3xf32>) {
  %r = "tiny.linear"(%x, %w, %b) : (tensor<1x1x2x2xf32>, tensor<3x4xf32>, tensor<3xf32>) -> tensor<1x3xf32>
  return
}
// CHECK-LABEL: func.func @linear_9(
// CHECK: "tiny.linear"({{.*}}) : (tensor<1x1x2x2xf32>, tensor<3x4xf32>, tensor<3xf32>) -> tensor<1x3xf32>

func.func @softmax_cross_entropy_10(%l: tensor<1x1x1x3xf32>, %label: tensor<i32>) {
  %r = "tiny.softmax_cross_entropy"(%l, %label) : (tensor<1x1x1x3xf32>, tensor<i32>) -> tensor<f32>
  return
}
// CHECK-LABEL: func.func @softmax_cross_entropy_10(
// CHECK: "tiny.softmax_cross_entropy"({{.*}}) : (tensor<1x1x1x3xf32>, tensor<i32>) -> tensor<f32>
}
