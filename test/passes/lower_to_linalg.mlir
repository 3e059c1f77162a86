// RUN: %tiny-opt %s -p tiny-lower-to-linalg | FileCheck %s

// A trained parameter becomes one mutable global for both functions, with accessors.

// CHECK-LABEL: module {
// CHECK: ml_program.global private mutable @c.w(dense<-32640> : tensor<2x1x1x3xi16>) : tensor<2x1x1x3xi16>
// CHECK: ml_program.global private mutable @c.b(dense<5> : tensor<2xi32>) : tensor<2xi32>
// CHECK-NOT: ml_program.global
// CHECK-NOT: tiny.
// CHECK-NOT: quant.

module {

// Quantized tensors are i8 in signatures, a mask is i8 as well.

// CHECK-LABEL: func.func @infer(
// CHECK-SAME: tensor<1x2x2x3xi8>) -> (tensor<1x2x2x2xi8>, tensor<1x2x2x2xi8>)
func.func @infer(%x: tensor<1x2x2x3x!quant.uniform<i8:f32, 0.5:3>>) -> (tensor<1x2x2x2x!quant.uniform<i8:f32, 0.25:-1>>, tensor<1x2x2x2xi1>) {
  // CHECK: %[[MASTER:.*]] = ml_program.global_load @c.w : tensor<2x1x1x3xi16>
  %w = "tiny.parameter"() {symbol = "c.w", trained, value = dense<-32640> : tensor<2x1x1x3xi16>} : () -> tensor<2x1x1x3xi16>
  // CHECK: ml_program.global_load @c.b
  %b = "tiny.parameter"() {symbol = "c.b", trained, value = dense<5> : tensor<2xi32>} : () -> tensor<2xi32>
  // The int8 weight is the upper byte of the master.
  // CHECK: linalg.generic {{.*}} ins(%[[MASTER]] : tensor<2x1x1x3xi16>)
  // CHECK: arith.shrsi
  // CHECK: arith.trunci {{.*}} : i16 to i8
  // The products are summed in 32 bits, the rest is done in 64.
  // CHECK: linalg.generic {{.*}} iterator_types = ["parallel", "parallel", "reduction"]
  // CHECK: arith.extsi {{.*}} : i8 to i32
  // CHECK: arith.muli {{.*}} : i32
  // CHECK: arith.muli {{.*}} : i64
  // CHECK: arith.shrsi {{.*}} : i64
  %y, %m = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>, weight_scales = dense<[0.01, 0.02]> : tensor<2xf64>} : (tensor<1x2x2x3x!quant.uniform<i8:f32, 0.5:3>>, tensor<2x1x1x3xi16>, tensor<2xi32>) -> (tensor<1x2x2x2x!quant.uniform<i8:f32, 0.25:-1>>, tensor<1x2x2x2xi1>)
  return %y, %m : tensor<1x2x2x2x!quant.uniform<i8:f32, 0.25:-1>>, tensor<1x2x2x2xi1>
}

// Padding holds the zero point of the input, which is real zero; a frozen parameter is a constant.

// CHECK-LABEL: func.func @padded(
func.func @padded(%x: tensor<1x2x2x1x!quant.uniform<i8:f32, 0.5:3>>) -> tensor<1x2x2x1x!quant.uniform<i8:f32, 0.25:-1>> {
  // CHECK: arith.constant dense<2> : tensor<1x3x3x1xi8>
  %w = "tiny.parameter"() {symbol = "p.w", value = dense<2> : tensor<1x3x3x1xi8>} : () -> tensor<1x3x3x1xi8>
  %b = "tiny.parameter"() {symbol = "p.b", value = dense<5> : tensor<1xi32>} : () -> tensor<1xi32>
  // CHECK: %[[ZERO:.*]] = arith.constant 3 : i8
  // CHECK: tensor.pad %{{.*}} low[0, 1, 1, 0] high[0, 1, 1, 0]
  // CHECK: tensor.yield %[[ZERO]] : i8
  // CHECK: linalg.conv_2d_nhwc_hwcf
  // Bias and zero point are one constant a channel, here 5 - 3 * 18.
  // CHECK: arith.constant dense<-49> : tensor<1xi32>
  %y = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 1, 1, 1>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.01> : tensor<1xf64>} : (tensor<1x2x2x1x!quant.uniform<i8:f32, 0.5:3>>, tensor<1x3x3x1xi8>, tensor<1xi32>) -> tensor<1x2x2x1x!quant.uniform<i8:f32, 0.25:-1>>
  return %y : tensor<1x2x2x1x!quant.uniform<i8:f32, 0.25:-1>>
}

// An update stores the new value; what was loaded before stays what it was.

// CHECK-LABEL: func.func @train_step(
func.func @train_step(%g: tensor<1x2x2x2xf32>, %rate: tensor<f32>) {
  // CHECK: %[[OLD:.*]] = ml_program.global_load @c.b : tensor<2xi32>
  %b = "tiny.parameter"() {symbol = "c.b", trained, value = dense<5> : tensor<2xi32>} : () -> tensor<2xi32>
  // CHECK: math.roundeven
  // CHECK: ml_program.global_store @c.b = %{{.*}} : tensor<2xi32>
  "tiny.bias_update"(%b, %g, %rate) {factors = dense<0.5> : tensor<2xf32>} : (tensor<2xi32>, tensor<1x2x2x2xf32>, tensor<f32>) -> ()
  return
}

// CHECK-LABEL: func.func @get.c.w() -> tensor<2x1x1x3xi16>
// CHECK-LABEL: func.func @set.c.w(
// CHECK-SAME: tensor<2x1x1x3xi16>)
// CHECK-LABEL: func.func @reset()
// CHECK: ml_program.global_store @c.w = %{{.*}}
// CHECK: ml_program.global_store @c.b = %{{.*}}

}
