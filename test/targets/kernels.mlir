// RUN: %python -m tiny_targets.kernels %s --target rv32imc | FileCheck %s
// RUN: %python -m tiny_targets.kernels %s --layer b | FileCheck %s --check-prefix=LAYER
// RUN: not %python -m tiny_targets.kernels %s --target z80 2>&1 | FileCheck %s --check-prefix=TARGET

// Layers of one shape share a kernel: what differs between them is an argument. The rank-4 tensors
// become flat memrefs; the factor is a table.

// CHECK:      // @f a tiny.scale_gradient -> @[[KERNEL:scale_gradient_[0-9a-f]{12}]]
// CHECK-NEXT: func.func @[[KERNEL]](%[[G:.*]]: memref<30xf32>, %[[FACTOR:.*]]: memref<1xf32>, %[[GX:.*]]: memref<30xf32>) {
// CHECK:        %[[F:.*]] = memref.load %[[FACTOR]][%{{.*}}] : memref<1xf32>
// CHECK-NEXT:   scf.for %[[I:.*]] = %c0 to %c30 step %c1 {
// CHECK-NEXT:     %[[V:.*]] = memref.load %[[G]][%[[I]]] : memref<30xf32>
// CHECK-NEXT:     %[[S:.*]] = arith.mulf %[[V]], %[[F]] : f32
// CHECK-NEXT:     memref.store %[[S]], %[[GX]][%[[I]]] : memref<30xf32>
// CHECK-NEXT:   }
// CHECK-NEXT:   return
// CHECK:      // @f b tiny.scale_gradient -> @[[KERNEL]]
// CHECK-NOT:  func.func

// LAYER-NOT: // @f a
// LAYER:     // @f b tiny.scale_gradient -> @[[KERNEL:scale_gradient_[0-9a-f]{12}]]
// LAYER-NEXT: func.func @[[KERNEL]](

// TARGET: error: unknown target 'z80' (known: {{.*}}cortex-m7{{.*}})

func.func @f(%g: tensor<1x2x3x5xf32>) -> tensor<1x2x3x5xf32> {
  %a = "tiny.scale_gradient"(%g) {factor = 0.5 : f32, layer = "a", operandSegmentSizes = array<i32: 1, 0>} : (tensor<1x2x3x5xf32>) -> tensor<1x2x3x5xf32>
  %b = "tiny.scale_gradient"(%a) {factor = 0.25 : f32, layer = "b", operandSegmentSizes = array<i32: 1, 0>} : (tensor<1x2x3x5xf32>) -> tensor<1x2x3x5xf32>
  return %b : tensor<1x2x3x5xf32>
}
