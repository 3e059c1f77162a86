// RUN: not %tiny-import %s -o %t.mlir 2>&1 | FileCheck %s
// RUN: not %tiny-import %s.missing 2>&1 | FileCheck %s --check-prefix=MISSING
// RUN: not cat %t.mlir

// CHECK: tiny-import: {{.*}}tiny_import_invalid.mlir:[[# @LINE + 5]]:8: 'tiny.global_average_pool' op expects equal quantization of x and y
// MISSING: tiny-import: {{.*}}tiny_import_invalid.mlir.missing: No such file or directory

func.func @infer(%x: tensor<1x2x2x3x!quant.uniform<i8:f32, 1.0e-01:3>>)
    -> tensor<1x1x1x3x!quant.uniform<i8:f32, 2.0e-01:3>> {
  %y = "tiny.global_average_pool"(%x) {layer = "pool"}
    : (tensor<1x2x2x3x!quant.uniform<i8:f32, 1.0e-01:3>>) -> tensor<1x1x1x3x!quant.uniform<i8:f32, 2.0e-01:3>>
  return %y : tensor<1x1x1x3x!quant.uniform<i8:f32, 2.0e-01:3>>
}
