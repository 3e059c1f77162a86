// RUN: %tiny-opt %s -p 'tiny-choose-blocking{target=cortex-m7}' | FileCheck %s --check-prefix=DSP
// RUN: %tiny-opt %s -p 'tiny-choose-blocking{target=rv32imafc}' | FileCheck %s --check-prefix=FLOAT
// RUN: %tiny-opt %s -p 'tiny-choose-blocking{target=rv32imc}' | FileCheck %s --check-prefix=WORD
// RUN: not %tiny-opt %s -p 'tiny-choose-blocking{target=z80}' 2>&1 | FileCheck %s --check-prefix=TARGET

// A pointwise and a dense convolution get the pixels, channels and steps that were measured for the
// core; a blocking that is there already stays, and a depthwise convolution has none.

// DSP-LABEL:   @f
// DSP:         "tiny.conv2d"{{.*}}layer = "pointwise"{{.*}}tiny.blocking = array<i64: 2, 2, {{[0-9]+}}>
// DSP:         "tiny.conv2d"{{.*}}layer = "dense"{{.*}}tiny.blocking = array<i64: 2, 2, {{[0-9]+}}>
// DSP:         "tiny.conv2d"{{.*}}layer = "kept"{{.*}}tiny.blocking = array<i64: 1, 2, 3>
// DSP:         "tiny.conv2d"{{.*}}layer = "depthwise"
// DSP-NOT:     tiny.blocking
// FLOAT:       layer = "pointwise"{{.*}}tiny.blocking = array<i64: 4, 4, {{[0-9]+}}>
// WORD:        layer = "pointwise"{{.*}}tiny.blocking = array<i64: 2, 4, {{[0-9]+}}>
// TARGET:      unknown target 'z80'

!x = tensor<1x8x8x8x!quant.uniform<i8:f32, 5.000000e-01:0>>
func.func @f(%x: !x) -> !x {
  %w = "tiny.parameter"() {symbol = "w", value = dense<1> : tensor<8x1x1x8xi8>} : () -> tensor<8x1x1x8xi8>
  %d = "tiny.parameter"() {symbol = "d", value = dense<1> : tensor<8x3x3x8xi8>} : () -> tensor<8x3x3x8xi8>
  %c = "tiny.parameter"() {symbol = "c", value = dense<1> : tensor<8x3x3x1xi8>} : () -> tensor<8x3x3x1xi8>
  %b = "tiny.parameter"() {symbol = "b", value = dense<1> : tensor<8xi32>} : () -> tensor<8xi32>
  %y = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "pointwise", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.01> : tensor<8xf64>} : (!x, tensor<8x1x1x8xi8>, tensor<8xi32>) -> !x
  %z = "tiny.conv2d"(%y, %d, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "dense", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 1, 1, 1>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.01> : tensor<8xf64>} : (!x, tensor<8x3x3x8xi8>, tensor<8xi32>) -> !x
  %k = "tiny.conv2d"(%z, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "kept", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, tiny.blocking = array<i64: 1, 2, 3>, weight_scales = dense<0.01> : tensor<8xf64>} : (!x, tensor<8x1x1x8xi8>, tensor<8xi32>) -> !x
  %r = "tiny.conv2d"(%k, %c, %b) {clamp = array<i64: -128, 127>, groups = 8 : i64, layer = "depthwise", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 1, 1, 1>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.01> : tensor<8xf64>} : (!x, tensor<8x3x3x1xi8>, tensor<8xi32>) -> !x
  return %r : !x
}
