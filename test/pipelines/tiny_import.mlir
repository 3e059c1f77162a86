// RUN: %tiny-import %s | FileCheck %s --check-prefix=SAME
// RUN: %tiny-import %s --classes 3 --seed 1 | FileCheck %s --check-prefix=HEAD
// RUN: %tiny-import %s -o %t.mlirbc --json | FileCheck %s --check-prefix=JSON
// RUN: %tiny-import %t.mlirbc | FileCheck %s --check-prefix=SAME

// The model passes through unchanged, and gets the name and the stage that it lacks.
// SAME:       func.func @infer(%arg0: [[X:tensor<1x2x2x3x!quant.*>]]) -> [[Y:tensor<1x1x1x2x!quant.*>]]
// SAME-SAME:  tiny.model = "tiny_import", tiny.stage = "model"
// SAME-NEXT:  %0 = "tiny.global_average_pool"(%arg0)
// SAME-NEXT:  %1 = "tiny.parameter"() {layer = "fc", symbol = "fc.weight"
// SAME-NEXT:  %2 = "tiny.parameter"() {layer = "fc", symbol = "fc.bias"
// SAME-NEXT:  %3 = "tiny.conv2d"(%0, %1, %2)
// SAME-NEXT:  return %3

// The classifier and its parameters are gone; a float32 head of three classes reads the features.
// HEAD:       func.func @infer(%arg0: {{.*}}) -> tensor<1x3xf32>
// HEAD-NEXT:  %0 = "tiny.global_average_pool"(%arg0)
// HEAD-NEXT:  %1 = "tiny.dequantize"(%0) {layer = "classifier"}
// HEAD-NEXT:  %2 = "tiny.parameter"() {layer = "classifier", symbol = "classifier.weight", {{.*}}tensor<3x3xf32>
// HEAD-NEXT:  %3 = "tiny.parameter"() {layer = "classifier", symbol = "classifier.bias", {{.*}}tensor<3xf32>
// HEAD-NEXT:  %4 = "tiny.linear"(%1, %2, %3) {layer = "classifier"}
// HEAD-NEXT:  return %4 : tensor<1x3xf32>

// JSON:       "model": "tiny_import",
// JSON:       "classes": 2,
// JSON:       "parameter_bytes": 14,

func.func @infer(%x: tensor<1x2x2x3x!quant.uniform<i8:f32, 1.0e-01:3>>)
    -> tensor<1x1x1x2x!quant.uniform<i8:f32, 2.0e-01>> {
  %features = "tiny.global_average_pool"(%x) {layer = "pool"}
    : (tensor<1x2x2x3x!quant.uniform<i8:f32, 1.0e-01:3>>) -> tensor<1x1x1x3x!quant.uniform<i8:f32, 1.0e-01:3>>
  %w = "tiny.parameter"() {layer = "fc", symbol = "fc.weight", value = dense<5> : tensor<2x1x1x3xi8>} : () -> tensor<2x1x1x3xi8>
  %b = "tiny.parameter"() {layer = "fc", symbol = "fc.bias", value = dense<7> : tensor<2xi32>} : () -> tensor<2xi32>
  %y = "tiny.conv2d"(%features, %w, %b) {
    layer = "fc", clamp = array<i64: -128, 127>, strides = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64,
    weight_scales = dense<1.0e-02> : tensor<2xf64>,
    operandSegmentSizes = array<i32: 1, 1, 1, 0>, resultSegmentSizes = array<i32: 1, 0>
  } : (tensor<1x1x1x3x!quant.uniform<i8:f32, 1.0e-01:3>>, tensor<2x1x1x3xi8>, tensor<2xi32>)
    -> tensor<1x1x1x2x!quant.uniform<i8:f32, 2.0e-01>>
  return %y : tensor<1x1x1x2x!quant.uniform<i8:f32, 2.0e-01>>
}
