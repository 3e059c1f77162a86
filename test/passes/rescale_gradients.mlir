// RUN: %tiny-opt %s -p tiny-rescale-gradients | FileCheck %s --check-prefixes=CHECK,QAS
// RUN: %tiny-opt %s -p 'tiny-rescale-gradients{qas=false}' | FileCheck %s --check-prefixes=CHECK,PLAIN
// RUN: %tiny-opt %s -p 'tiny-rescale-gradients{powers-of-two}' | FileCheck %s --check-prefixes=CHECK,POWERS
// RUN: %tiny-opt %s -p 'tiny-rescale-gradients{uniform}' | FileCheck %s --check-prefixes=CHECK,UNIFORM
// RUN: %tiny-opt %s -p 'tiny-rescale-gradients{cap=10}' | FileCheck %s --check-prefixes=CHECK,CAPPED
// RUN: not %tiny-opt %s -p 'tiny-rescale-gradients{cap=0}' 2>&1 | FileCheck %s --check-prefix=CAP
// RUN: not %tiny-opt %s -p 'tiny-rescale-gradients{cap=nan}' 2>&1 | FileCheck %s --check-prefix=CAP

// A depthwise convolution: all biases are trained, of the weights only the channels 0, 2 and 3. The
// scale of channel 0 is below 1e-7: the channel is dead. Weights get 1 / s_w^2, biases
// 1 / (s_w s_x)^2, the float head 1.

!x = tensor<1x1x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!s = tensor<1x1x3x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @train_step(%x: !x, %g: tensor<1x1x3x4xf32>, %gw: tensor<3x1x1x1xf32>, %gb: tensor<4xf32>, %gh: tensor<2xf32>, %rate: tensor<f32>) -> tensor<1x2xf32> {
  %w = "tiny.parameter"() {symbol = "w", value = dense<1> : tensor<4x1x1x1xi8>} : () -> tensor<4x1x1x1xi8>
  %t = "tiny.parameter"() {symbol = "w.trained", trained, value = dense<1> : tensor<3x1x1x1xi16>} : () -> tensor<3x1x1x1xi16>
  %b = "tiny.parameter"() {symbol = "b", trained, value = dense<1> : tensor<4xi32>} : () -> tensor<4xi32>
  %hw = "tiny.parameter"() {symbol = "head.w", value = dense<1.0> : tensor<2x12xf32>} : () -> tensor<2x12xf32>
  %hb = "tiny.parameter"() {symbol = "head.b", trained, value = dense<1.0> : tensor<2xf32>} : () -> tensor<2xf32>
  %y = "tiny.conv2d"(%x, %w, %b, %t) {clamp = array<i64: -128, 127>, groups = 4 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, trained_channels = array<i64: 0, 2, 3>, weight_scales = dense<[5.0e-8, 0.5, 0.25, 0.2]> : tensor<4xf64>} : (!x, tensor<4x1x1x1xi8>, tensor<4xi32>, tensor<3x1x1x1xi16>) -> !x
  %f = "tiny.dequantize"(%y) : (!x) -> tensor<1x1x3x4xf32>
  %l = "tiny.linear"(%f, %hw, %hb) : (tensor<1x1x3x4xf32>, tensor<2x12xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  "tiny.apply_update"(%t, %gw, %rate) {factors = dense<1.0> : tensor<3xf32>} : (tensor<3x1x1x1xi16>, tensor<3x1x1x1xf32>, tensor<f32>) -> ()
  "tiny.apply_update"(%b, %gb, %rate) {factors = dense<1.0> : tensor<4xf32>} : (tensor<4xi32>, tensor<4xf32>, tensor<f32>) -> ()
  "tiny.apply_update"(%hb, %gh, %rate) {factors = dense<1.0> : tensor<2xf32>} : (tensor<2xf32>, tensor<2xf32>, tensor<f32>) -> ()
  return %l : tensor<1x2xf32>
}

// CHECK-LABEL: func.func @train_step
// CHECK-SAME:    tiny.stage = "scaled"
// QAS:           "tiny.apply_update"{{.*}}factors = dense<[0.000000e+00, 1.600000e+01, 2.500000e+01]> : tensor<3xf32>
// QAS-NEXT:      "tiny.apply_update"{{.*}}factors = dense<[0.000000e+00, 1.600000e+01, 6.400000e+01, 1.000000e+02]> : tensor<4xf32>
// QAS-NEXT:      "tiny.apply_update"{{.*}}factors = dense<1.000000e+00> : tensor<2xf32>
// PLAIN:         "tiny.apply_update"{{.*}}factors = dense<[0.000000e+00, 1.000000e+00, 1.000000e+00]> : tensor<3xf32>
// PLAIN-NEXT:    "tiny.apply_update"{{.*}}factors = dense<[0.000000e+00, 1.000000e+00, 1.000000e+00, 1.000000e+00]> : tensor<4xf32>
// PLAIN-NEXT:    "tiny.apply_update"{{.*}}factors = dense<1.000000e+00> : tensor<2xf32>
// POWERS:        "tiny.apply_update"{{.*}}factors = dense<[0.000000e+00, 1.600000e+01, 3.200000e+01]> : tensor<3xf32>
// POWERS-NEXT:   "tiny.apply_update"{{.*}}factors = dense<[0.000000e+00, 1.600000e+01, 6.400000e+01, 1.280000e+02]> : tensor<4xf32>
// POWERS-NEXT:   "tiny.apply_update"{{.*}}factors = dense<1.000000e+00> : tensor<2xf32>
// UNIFORM:       "tiny.apply_update"{{.*}}factors = dense<[0.000000e+00, 2.000000e+01, 2.000000e+01]> : tensor<3xf32>
// UNIFORM-NEXT:  "tiny.apply_update"{{.*}}factors = dense<[0.000000e+00, 46.784{{[0-9]*}}, 46.784{{[0-9]*}}, 46.784{{[0-9]*}}]> : tensor<4xf32>
// UNIFORM-NEXT:  "tiny.apply_update"{{.*}}factors = dense<1.000000e+00> : tensor<2xf32>
// CAPPED:        "tiny.apply_update"{{.*}}factors = dense<[0.000000e+00, 1.000000e+01, 1.000000e+01]> : tensor<3xf32>
// CAPPED-NEXT:   "tiny.apply_update"{{.*}}factors = dense<[0.000000e+00, 1.000000e+01, 1.000000e+01, 1.000000e+01]> : tensor<4xf32>
// CAP:           tiny-rescale-gradients: cap {{.*}} is outside [2^-100, 2^100]
