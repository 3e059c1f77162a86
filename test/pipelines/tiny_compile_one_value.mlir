// A network of one value is for inference; there is nothing to train it against. A head
// for several classes makes a classifier of it.

// RUN: not %tiny-compile %s --scheme full --compile-to train -o %t.mlir 2>&1 | FileCheck %s
// RUN: not test -e %t.mlir
// RUN: %tiny-compile %s --classes 3 --scheme full --compile-to train -o - | FileCheck %s --check-prefix=TRAIN

// CHECK: tiny-compile: {{.*}}tiny_compile_one_value.mlir:{{[0-9]+}}:1: the model returns one value, from which a classifier cannot learn; --classes N gives it a head for N classes
// TRAIN: -> (tensor<f32>, tensor<1x3xf32>)

!p = tensor<1x1x1x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!y = tensor<1x1x1x1x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @infer(%x: !p) -> !y {
  %w = "tiny.parameter"() {layer = "a", symbol = "a.w", value = dense<1> : tensor<1x1x1x2xi8>} : () -> tensor<1x1x1x2xi8>
  %b = "tiny.parameter"() {layer = "a", symbol = "a.b", value = dense<1> : tensor<1xi32>} : () -> tensor<1xi32>
  %y = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "a", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<1xf64>} : (!p, tensor<1x1x1x2xi8>, tensor<1xi32>) -> !y
  return %y : !y
}
