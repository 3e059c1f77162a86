// RUN: %python -m tiny_targets.kernels %s --target rv32imc | FileCheck %s
// RUN: %python -m tiny_targets.kernels %s --layer b | FileCheck %s --check-prefix=LAYER
// RUN: not %python -m tiny_targets.kernels %s --target z80 2>&1 | FileCheck %s --check-prefix=TARGET

// Layers share a kernel: what differs between them, sizes and the factor, is an argument. Elements
// are walked by address in blocks of eight; the last six of each stand behind the loop.

// CHECK:      // @f a tiny.scale_gradient -> @[[KERNEL:scale_gradient_[0-9a-f]{12}]]
// CHECK-NEXT: func.func @[[KERNEL]](%[[SIZES:.*]]: memref<2xi32>, %[[FACTOR:.*]]: memref<1xf32>, %[[G:.*]]: memref<1xf32>, %[[GX:.*]]: memref<1xf32>) {
// CHECK:        %[[F:.*]] = memref.load %[[FACTOR]][%{{.*}}] : memref<1xf32>
// CHECK:        scf.while
// CHECK-COUNT-8:  arith.mulf %{{.*}}, %[[F]] : f32
// CHECK:          llvm.icmp "ne"
// CHECK:        scf.yield
// CHECK-COUNT-6: arith.mulf %{{.*}}, %[[F]] : f32
// CHECK-NOT:    arith.mulf
// CHECK:        return
// CHECK:      // @f b tiny.scale_gradient -> @[[KERNEL]]
// CHECK-NOT:  func.func

// LAYER-NOT: // @f a
// LAYER:     // @f b tiny.scale_gradient -> @[[KERNEL:scale_gradient_[0-9a-f]{12}]]
// LAYER-NEXT: func.func @[[KERNEL]](

// TARGET: error: unknown target 'z80' (known: {{.*}}cortex-m7{{.*}})

func.func @f(%g: tensor<1x2x3x5xf32>, %h: tensor<1x1x2x7xf32>) -> (tensor<1x2x3x5xf32>, tensor<1x1x2x7xf32>) {
  %a = "tiny.scale_gradient"(%g) {factor = 0.5 : f32, layer = "a", operandSegmentSizes = array<i32: 1, 0>} : (tensor<1x2x3x5xf32>) -> tensor<1x2x3x5xf32>
  %b = "tiny.scale_gradient"(%h) {factor = 0.25 : f32, layer = "b", operandSegmentSizes = array<i32: 1, 0>} : (tensor<1x1x2x7xf32>) -> tensor<1x1x2x7xf32>
  return %a, %b : tensor<1x2x3x5xf32>, tensor<1x1x2x7xf32>
}
