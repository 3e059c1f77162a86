// RUN: %python -m tiny_targets.kernels %s | FileCheck %s

func.func @train_step(%g: tensor<1x2x3x5xf32>, %rate: tensor<f32>) {
  // Channels are summed eight side by side, what is left of them one by one. Each channel sum, then
  // factor and rate, the limit of the step, half to even by the magic number, subtraction in 64 bits,
  // saturation; a step of zero keeps the old value. Sizes are arguments.

  // CHECK:      // @train_step a tiny.bias_update -> @bias_update_
  // CHECK-NEXT: func.func @bias_update_{{.*}}(%[[SIZES:.*]]: memref<3xi32>, %[[P:.*]]: memref<1xi32>, %[[FACTORS:.*]]: memref<1xf32>, %[[RATE:.*]]: memref<f32>, %[[G:.*]]: memref<1xf32>) {
  // CHECK:        %[[R:.*]] = memref.load %[[RATE]][] : memref<f32>
  // CHECK:        scf.for
  // CHECK:          scf.while {{.*}} -> (!llvm.ptr, f32, f32, f32, f32, f32, f32, f32, f32) {
  // CHECK:        scf.for
  // CHECK:          %[[SUM:.*]]:2 = scf.while (%[[AT:.*]] = %{{.*}}, %[[TOTAL:.*]] = %{{.*}}) : (!llvm.ptr, f32) -> (!llvm.ptr, f32) {
  // CHECK-NEXT:       %[[V:.*]] = llvm.load %[[AT]] : !llvm.ptr -> f32
  // CHECK:            %[[NEXT:.*]] = arith.addf %[[TOTAL]], %[[V]] : f32
  // CHECK:          %[[F:.*]] = llvm.load %{{.*}} : !llvm.ptr -> f32
  // CHECK-NEXT:     %[[K:.*]] = arith.mulf %[[F]], %[[R]] : f32
  // CHECK-NEXT:     %[[DELTA:.*]] = arith.mulf %[[SUM]]#1, %[[K]] : f32
  // CHECK:          %[[OLD:.*]] = llvm.load %{{.*}} : !llvm.ptr -> i32
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
  // CHECK:          llvm.store %[[NEW]], %{{.*}} : i32, !llvm.ptr
  %b = "tiny.parameter"() {layer = "a", symbol = "a.b", trained, value = dense<0> : tensor<5xi32>} : () -> tensor<5xi32>
  "tiny.bias_update"(%b, %g, %rate) {factors = dense<1.0> : tensor<5xf32>, layer = "a"} : (tensor<5xi32>, tensor<1x2x3x5xf32>, tensor<f32>) -> ()
  return
}
