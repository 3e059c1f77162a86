// RUN: %tiny-opt %s | %tiny-opt | FileCheck %s
// RUN: %tiny-opt %s --emit-bytecode | %tiny-opt | FileCheck %s

// Every update op prints and parses unchanged, as text and as bytecode.

module {
// int8 (stochastic rounding), int16 master, int32 bias, float32 head.
func.func @apply_update_0(%g: tensor<6x2xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<6x2xi8>} : () -> tensor<6x2xi8>
  "tiny.apply_update"(%p_p, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6x2xi8>, tensor<6x2xf32>, tensor<f32>) -> ()
  return
}
// CHECK-LABEL: func.func @apply_update_0(
// CHECK: "tiny.apply_update"({{.*}}) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6x2xi8>, tensor<6x2xf32>, tensor<f32>) -> ()

func.func @apply_update_1(%g: tensor<6x2xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<6x2xi16>} : () -> tensor<6x2xi16>
  "tiny.apply_update"(%p_p, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6x2xi16>, tensor<6x2xf32>, tensor<f32>) -> ()
  return
}
// CHECK-LABEL: func.func @apply_update_1(
// CHECK: "tiny.apply_update"({{.*}}) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6x2xi16>, tensor<6x2xf32>, tensor<f32>) -> ()

func.func @apply_update_2(%g: tensor<6xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<6xi32>} : () -> tensor<6xi32>
  "tiny.apply_update"(%p_p, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6xi32>, tensor<6xf32>, tensor<f32>) -> ()
  return
}
// CHECK-LABEL: func.func @apply_update_2(
// CHECK: "tiny.apply_update"({{.*}}) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6xi32>, tensor<6xf32>, tensor<f32>) -> ()

func.func @apply_update_3(%g: tensor<6x2xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<1.000000e+00> : tensor<6x2xf32>} : () -> tensor<6x2xf32>
  "tiny.apply_update"(%p_p, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6x2xf32>, tensor<6x2xf32>, tensor<f32>) -> ()
  return
}
// CHECK-LABEL: func.func @apply_update_3(
// CHECK: "tiny.apply_update"({{.*}}) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6x2xf32>, tensor<6x2xf32>, tensor<f32>) -> ()

// Whole, then two depthwise channels.
func.func @conv2d_weight_update_4(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %g: tensor<1x5x4x6xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<128> : tensor<6x3x1x2xi16>} : () -> tensor<6x3x1x2xi16>
  "tiny.conv2d_weight_update"(%p_p, %x, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>, groups = 2 : i64, pads = array<i64: 1, 0, 1, 0>, strides = array<i64: 1, 1>} : (tensor<6x3x1x2xi16>, tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x6xf32>, tensor<f32>) -> ()
  return
}
// CHECK-LABEL: func.func @conv2d_weight_update_4(
// CHECK: "tiny.conv2d_weight_update"({{.*}}) {factors = dense<1.000000e+00> : tensor<6xf32>, groups = 2 : i64, pads = array<i64: 1, 0, 1, 0>, strides = array<i64: 1, 1>} : (tensor<6x3x1x2xi16>, tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x6xf32>, tensor<f32>) -> ()

func.func @conv2d_weight_update_5(%x: tensor<1x5x4x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %g: tensor<1x5x4x4xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<128> : tensor<2x3x1x1xi16>} : () -> tensor<2x3x1x1xi16>
  "tiny.conv2d_weight_update"(%p_p, %x, %g, %rate) {factors = dense<1.000000e+00> : tensor<2xf32>, groups = 2 : i64, output_channels = array<i64: 1, 3>, pads = array<i64: 1, 0, 1, 0>, strides = array<i64: 1, 1>} : (tensor<2x3x1x1xi16>, tensor<1x5x4x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x4xf32>, tensor<f32>) -> ()
  return
}
// CHECK-LABEL: func.func @conv2d_weight_update_5(
// CHECK: "tiny.conv2d_weight_update"({{.*}}) {factors = dense<1.000000e+00> : tensor<2xf32>, groups = 2 : i64, output_channels = array<i64: 1, 3>, pads = array<i64: 1, 0, 1, 0>, strides = array<i64: 1, 1>} : (tensor<2x3x1x1xi16>, tensor<1x5x4x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x4xf32>, tensor<f32>) -> ()

func.func @bias_update_6(%g: tensor<1x5x4x6xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<6xi32>} : () -> tensor<6xi32>
  "tiny.bias_update"(%p_p, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6xi32>, tensor<1x5x4x6xf32>, tensor<f32>) -> ()
  return
}
// CHECK-LABEL: func.func @bias_update_6(
// CHECK: "tiny.bias_update"({{.*}}) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6xi32>, tensor<1x5x4x6xf32>, tensor<f32>) -> ()

func.func @linear_weight_update_7(%x: tensor<1x1x1x4xf32>, %g: tensor<1x6xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<1.000000e+00> : tensor<6x4xf32>} : () -> tensor<6x4xf32>
  "tiny.linear_weight_update"(%p_p, %x, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6x4xf32>, tensor<1x1x1x4xf32>, tensor<1x6xf32>, tensor<f32>) -> ()
  return
}
// CHECK-LABEL: func.func @linear_weight_update_7(
// CHECK: "tiny.linear_weight_update"({{.*}}) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6x4xf32>, tensor<1x1x1x4xf32>, tensor<1x6xf32>, tensor<f32>) -> ()

func.func @stochastic(%g: tensor<6x2xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<6x2xi8>} : () -> tensor<6x2xi8>
  %n = "tiny.parameter"() {symbol = "n", trained, value = dense<0> : tensor<1xi32>} : () -> tensor<1xi32>
  "tiny.stochastic_update"(%p_p, %g, %rate, %n) {factors = dense<1.000000e+00> : tensor<6xf32>, stream = 4294967295 : i64} : (tensor<6x2xi8>, tensor<6x2xf32>, tensor<f32>, tensor<1xi32>) -> ()
  "tiny.advance_counter"(%n) : (tensor<1xi32>) -> ()
  "tiny.clear"(%p_p) : (tensor<6x2xi8>) -> ()
  return
}
// CHECK-LABEL: func.func @stochastic(
// CHECK: "tiny.stochastic_update"({{.*}}) {factors = dense<1.000000e+00> : tensor<6xf32>, stream = 4294967295 : i64} : (tensor<6x2xi8>, tensor<6x2xf32>, tensor<f32>, tensor<1xi32>) -> ()
// CHECK-NEXT: "tiny.advance_counter"({{.*}}) : (tensor<1xi32>) -> ()
// CHECK-NEXT: "tiny.clear"({{.*}}) : (tensor<6x2xi8>) -> ()

func.func @truncated(%g: tensor<6x2xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<6x2xi8>} : () -> tensor<6x2xi8>
  "tiny.apply_update"(%p_p, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>, rounding = "truncate"} : (tensor<6x2xi8>, tensor<6x2xf32>, tensor<f32>) -> ()
  return
}
// CHECK-LABEL: func.func @truncated(
// CHECK: rounding = "truncate"
}
