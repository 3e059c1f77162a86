// RUN: %python -m tiny_targets.kernels %s | FileCheck %s

func.func @train_step(%g: tensor<1x2x3x5xf32>, %rate: tensor<f32>) {
  // The channel sum, then factor and rate, the limit of the step, half to even by the magic number,
  // subtraction in 64 bits, saturation; a step of zero keeps the old value.

  // CHECK:      // @train_step a tiny.bias_update -> @bias_update_
  // CHECK-NEXT: func.func @bias_update_{{.*}}(%[[P:.*]]: memref<5xi32>, %[[G:.*]]: memref<6x5xf32>, %[[FACTORS:.*]]: memref<5xf32>, %[[RATE:.*]]: memref<f32>) {
  // CHECK:        %[[R:.*]] = memref.load %[[RATE]][] : memref<f32>
  // CHECK-NEXT:   scf.for %[[C:.*]] = %c0 to %c5 step %c1 {
  // CHECK-NEXT:     %[[SUM:.*]] = scf.for %[[PIXEL:.*]] = %c0 to %c6 step %c1 iter_args(%[[TOTAL:.*]] = %{{.*}}) -> (f32) {
  // CHECK-NEXT:       %[[V:.*]] = memref.load %[[G]][%[[PIXEL]], %[[C]]] : memref<6x5xf32>
  // CHECK-NEXT:       %[[NEXT:.*]] = arith.addf %[[TOTAL]], %[[V]] : f32
  // CHECK-NEXT:       scf.yield %[[NEXT]] : f32
  // CHECK-NEXT:     }
  // CHECK-NEXT:     %[[F:.*]] = memref.load %[[FACTORS]][%[[C]]] : memref<5xf32>
  // CHECK-NEXT:     %[[K:.*]] = arith.mulf %[[F]], %[[R]] : f32
  // CHECK-NEXT:     %[[DELTA:.*]] = arith.mulf %[[SUM]], %[[K]] : f32
  // CHECK-NEXT:     %[[OLD:.*]] = memref.load %[[P]][%[[C]]] : memref<5xi32>
  // CHECK-NEXT:     %[[BELOW:.*]] = arith.cmpf olt, %[[DELTA]], %[[HIGH:.*]] : f32
  // CHECK-NEXT:     %[[UPPER:.*]] = arith.select %[[BELOW]], %[[DELTA]], %[[HIGH]] : f32
  // CHECK-NEXT:     %[[BEYOND:.*]] = arith.cmpf ogt, %[[UPPER]], %[[LOW:.*]] : f32
  // CHECK-NEXT:     %[[LIMITED:.*]] = arith.select %[[BEYOND]], %[[UPPER]], %[[LOW]] : f32
  // CHECK-NEXT:     %[[SHIFTED:.*]] = arith.addf %[[LIMITED]], %[[MAGIC:.*]] : f32
  // CHECK-NEXT:     %[[WHOLE:.*]] = arith.subf %[[SHIFTED]], %[[MAGIC]] : f32
  // CHECK-NEXT:     %[[STEP:.*]] = arith.fptosi %[[WHOLE]] : f32 to i32
  // CHECK:          arith.subi %{{.*}}, %{{.*}} : i64
  // CHECK-NEXT:     arith.minsi %{{.*}}, %c1073741824_i64 : i64
  // CHECK-NEXT:     arith.maxsi %{{.*}}, %c-1073741824_i64 : i64
  // CHECK-NEXT:     %[[MOVED:.*]] = arith.trunci %{{.*}} : i64 to i32
  // CHECK-NEXT:     %[[STILL:.*]] = arith.cmpi eq, %[[STEP]], %c0_i32 : i32
  // CHECK-NEXT:     %[[NEW:.*]] = arith.select %[[STILL]], %[[OLD]], %[[MOVED]] : i32
  // CHECK-NEXT:     memref.store %[[NEW]], %[[P]][%[[C]]] : memref<5xi32>
  %b = "tiny.parameter"() {layer = "a", symbol = "a.b", trained, value = dense<0> : tensor<5xi32>} : () -> tensor<5xi32>
  "tiny.bias_update"(%b, %g, %rate) {factors = dense<1.0> : tensor<5xf32>, layer = "a"} : (tensor<5xi32>, tensor<1x2x3x5xf32>, tensor<f32>) -> ()
  return
}
