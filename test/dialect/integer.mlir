// RUN: %tiny-opt %s | %tiny-opt | FileCheck %s
// RUN: %tiny-opt %s --emit-bytecode | %tiny-opt | FileCheck %s

// Every op of the integer gradients prints and parses unchanged, as text and as bytecode.

!x = tensor<1x4x6x6x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!g = tensor<1x4x6x6xi16>
!small = tensor<1x4x6x6xi8>
!header = tensor<2xi32>
!features = tensor<1x1x1x6x!quant.uniform<i8:f32, 5.000000e-02:7>>
module {

// A mask, one multiplier a channel, eight bits.
func.func @normalize_gradient(%g: !g, %h: !header, %mask: tensor<1x4x6x6xi1>) -> (!small, !header) {
  %m, %mh = "tiny.normalize_gradient"(%g, %h, %mask) {bits = 8 : i64, multipliers = dense<[1, 2, 3, 4, 5, 16384]> : tensor<6xi16>, operandSegmentSizes = array<i32: 1, 1, 1>, overshoot = 1 : i64, scale = -20 : i64} : (!g, !header, tensor<1x4x6x6xi1>) -> (!small, !header)
  return %m, %mh : !small, !header
}
// CHECK-LABEL: func.func @normalize_gradient(
// CHECK: "tiny.normalize_gradient"({{.*}}) {bits = 8 : i64, multipliers = dense<[1, 2, 3, 4, 5, 16384]> : tensor<6xi16>, operandSegmentSizes = array<i32: 1, 1, 1>, overshoot = 1 : i64, scale = -20 : i64} : (tensor<1x4x6x6xi16>, tensor<2xi32>, tensor<1x4x6x6xi1>) -> (tensor<1x4x6x6xi8>, tensor<2xi32>)

// One pixel spread over the plane by one multiplier: the gradient of a pool.
func.func @spread(%g: tensor<1x1x1x6xi16>, %h: !header) -> (!g, !header) {
  %m, %mh = "tiny.normalize_gradient"(%g, %h) {bits = 16 : i64, multipliers = dense<20000> : tensor<1xi16>, operandSegmentSizes = array<i32: 1, 1, 0>, overshoot = 0 : i64, scale = -20 : i64} : (tensor<1x1x1x6xi16>, !header) -> (!g, !header)
  return %m, %mh : !g, !header
}
// CHECK-LABEL: func.func @spread(
// CHECK: "tiny.normalize_gradient"({{.*}}) {bits = 16 : i64, multipliers = dense<20000> : tensor<1xi16>

func.func @integer_add_gradients(%a: !g, %ah: !header, %b: !small, %bh: !header) -> (!g, !header) {
  %s, %sh = "tiny.integer_add_gradients"(%a, %ah, %b, %bh) : (!g, !header, !small, !header) -> (!g, !header)
  return %s, %sh : !g, !header
}
// CHECK-LABEL: func.func @integer_add_gradients(
// CHECK: "tiny.integer_add_gradients"({{.*}}) : (tensor<1x4x6x6xi16>, tensor<2xi32>, tensor<1x4x6x6xi8>, tensor<2xi32>) -> (tensor<1x4x6x6xi16>, tensor<2xi32>)

// A partly trained weight.
func.func @integer_conv2d_input_grad(%g: !g, %h: !header, %w: tensor<6x1x1x6xi8>, %t: tensor<6x1x1x2xi16>) -> (!g, !header) {
  %x, %xh = "tiny.integer_conv2d_input_grad"(%g, %h, %w, %t) {groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1>, pads = array<i64: 0, 0, 0, 0>, shift = 9 : i64, strides = array<i64: 1, 1>, trained_channels = array<i64: 1, 4>} : (!g, !header, tensor<6x1x1x6xi8>, tensor<6x1x1x2xi16>) -> (!g, !header)
  return %x, %xh : !g, !header
}
// CHECK-LABEL: func.func @integer_conv2d_input_grad(
// CHECK: "tiny.integer_conv2d_input_grad"({{.*}}) {groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1>, pads = array<i64: 0, 0, 0, 0>, shift = 9 : i64, strides = array<i64: 1, 1>, trained_channels = array<i64: 1, 4>}

// The updates of a convolution; the third has gathered depthwise channels.
func.func @updates(%x: !x, %two: tensor<1x4x6x2x!quant.uniform<i8:f32, 0.5>>, %g: !g, %h: !header, %rate: tensor<f32>) {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<6x1x1x6xi16>} : () -> tensor<6x1x1x6xi16>
  %b = "tiny.parameter"() {symbol = "b", trained, value = dense<1> : tensor<6xi32>} : () -> tensor<6xi32>
  %d = "tiny.parameter"() {symbol = "d", trained, value = dense<1> : tensor<2x3x3x1xi16>} : () -> tensor<2x3x3x1xi16>
  "tiny.integer_conv2d_weight_update"(%w, %x, %g, %h, %rate) {align = 0 : i64, factors = dense<1.5> : tensor<6xf32>, groups = 1 : i64, pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<6x1x1x6xi16>, !x, !g, !header, tensor<f32>) -> ()
  "tiny.integer_bias_update"(%b, %g, %h, %rate) {align = 11 : i64, factors = dense<2.5> : tensor<6xf32>} : (tensor<6xi32>, !g, !header, tensor<f32>) -> ()
  "tiny.integer_conv2d_weight_update"(%d, %two, %g, %h, %rate) {align = 0 : i64, factors = dense<1.0> : tensor<2xf32>, groups = 2 : i64, output_channels = array<i64: 1, 4>, pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 1, 1>} : (tensor<2x3x3x1xi16>, tensor<1x4x6x2x!quant.uniform<i8:f32, 0.5>>, !g, !header, tensor<f32>) -> ()
  return
}
// CHECK-LABEL: func.func @updates(
// CHECK: "tiny.integer_conv2d_weight_update"({{.*}}) {align = 0 : i64, factors = dense<1.500000e+00> : tensor<6xf32>, groups = 1 : i64
// CHECK: "tiny.integer_bias_update"({{.*}}) {align = 11 : i64, factors = dense<2.500000e+00> : tensor<6xf32>}
// CHECK: "tiny.integer_conv2d_weight_update"({{.*}}) {align = 0 : i64, factors = dense<1.000000e+00> : tensor<2xf32>, groups = 2 : i64, output_channels = array<i64: 1, 4>

// Weights of one byte: to nearest, and at random. Float32 takes sums.
func.func @other_storage(%x: !x, %g: !g, %h: !header, %rate: tensor<f32>, %n: tensor<1xi32>) {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<6x1x1x6xi8>} : () -> tensor<6x1x1x6xi8>
  %r = "tiny.parameter"() {symbol = "r", trained, value = dense<1> : tensor<6x1x1x6xi8>} : () -> tensor<6x1x1x6xi8>
  %s = "tiny.parameter"() {symbol = "s", trained, value = dense<0.0> : tensor<6xf32>} : () -> tensor<6xf32>
  "tiny.integer_conv2d_weight_update"(%w, %x, %g, %h, %rate) {align = 3 : i64, factors = dense<1.5> : tensor<6xf32>, groups = 1 : i64, pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<6x1x1x6xi8>, !x, !g, !header, tensor<f32>) -> ()
  "tiny.integer_stochastic_conv2d_weight_update"(%r, %x, %g, %h, %rate, %n) {align = 3 : i64, factors = dense<1.5> : tensor<6xf32>, groups = 1 : i64, pads = array<i64: 0, 0, 0, 0>, stream = 4294967295 : i64, strides = array<i64: 1, 1>} : (tensor<6x1x1x6xi8>, !x, !g, !header, tensor<f32>, tensor<1xi32>) -> ()
  "tiny.integer_bias_update"(%s, %g, %h, %rate) {align = 0 : i64, factors = dense<-1.0> : tensor<6xf32>} : (tensor<6xf32>, !g, !header, tensor<f32>) -> ()
  return
}
// CHECK-LABEL: func.func @other_storage(
// CHECK: "tiny.integer_conv2d_weight_update"({{.*}}) {align = 3 : i64, {{.*}} : (tensor<6x1x1x6xi8>
// CHECK-NEXT: "tiny.integer_stochastic_conv2d_weight_update"({{.*}}) {align = 3 : i64, {{.*}}stream = 4294967295 : i64{{.*}} : (tensor<6x1x1x6xi8>
// CHECK-NEXT: "tiny.integer_bias_update"({{.*}}) {align = 0 : i64, {{.*}} : (tensor<6xf32>

// The head, from the features to the results of the step and back.
func.func @head(%x: !features, %label: tensor<i32>, %rate: tensor<f32>) -> (tensor<f32>, tensor<1x3xf32>, tensor<1x1x1x6xi16>, tensor<1x1x1x6xi32>) {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<3x6xi32>} : () -> tensor<3x6xi32>
  %b = "tiny.parameter"() {symbol = "b", trained, value = dense<1> : tensor<3xi32>} : () -> tensor<3xi32>
  %fixed = "tiny.dequantize_fixed"(%x) : (!features) -> tensor<1x1x1x6xi32>
  %y = "tiny.integer_linear"(%x, %w, %b) {fraction = 24 : i64} : (!features, tensor<3x6xi32>, tensor<3xi32>) -> tensor<1x3xi32>
  %loss = "tiny.integer_softmax_cross_entropy"(%y, %label) : (tensor<1x3xi32>, tensor<i32>) -> tensor<i32>
  %g, %h = "tiny.integer_softmax_cross_entropy_grad"(%y, %label) : (tensor<1x3xi32>, tensor<i32>) -> (tensor<1x3xi16>, !header)
  %gx, %gh = "tiny.integer_linear_input_grad"(%g, %h, %w) {fraction = 24 : i64} : (tensor<1x3xi16>, !header, tensor<3x6xi32>) -> (tensor<1x1x1x6xi16>, !header)
  %f = "tiny.fixed_to_float"(%loss) : (tensor<i32>) -> tensor<f32>
  %l = "tiny.fixed_to_float"(%y) : (tensor<1x3xi32>) -> tensor<1x3xf32>
  "tiny.integer_linear_weight_update"(%w, %x, %g, %h, %rate) {factors = dense<1.0> : tensor<3xf32>} : (tensor<3x6xi32>, !features, tensor<1x3xi16>, !header, tensor<f32>) -> ()
  return %f, %l, %gx, %fixed : tensor<f32>, tensor<1x3xf32>, tensor<1x1x1x6xi16>, tensor<1x1x1x6xi32>
}
// CHECK-LABEL: func.func @head(
// CHECK: "tiny.dequantize_fixed"
// CHECK: "tiny.integer_linear"({{.*}}) {fraction = 24 : i64}
// CHECK: "tiny.integer_softmax_cross_entropy"({{.*}}) : (tensor<1x3xi32>, tensor<i32>) -> tensor<i32>
// CHECK: "tiny.integer_softmax_cross_entropy_grad"({{.*}}) : (tensor<1x3xi32>, tensor<i32>) -> (tensor<1x3xi16>, tensor<2xi32>)
// CHECK: "tiny.integer_linear_input_grad"({{.*}}) {fraction = 24 : i64}
// CHECK: "tiny.fixed_to_float"
// CHECK: "tiny.integer_linear_weight_update"
}
