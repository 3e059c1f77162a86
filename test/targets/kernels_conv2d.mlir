// RUN: %python -m tiny_targets.kernels %s --layer pointwise | FileCheck %s --check-prefix=POINTWISE
// RUN: %python -m tiny_targets.kernels %s --layer padded | FileCheck %s --check-prefix=PADDED
// RUN: %python -m tiny_targets.kernels %s --layer partial | FileCheck %s --check-prefix=PARTIAL
// RUN: %python -m tiny_targets.kernels %s --layer saturated | FileCheck %s --check-prefix=SATURATED

!x = tensor<1x4x5x6x!quant.uniform<i8:f32, 2.000000e-02:-3>>
!y = tensor<1x4x5x4x!quant.uniform<i8:f32, 5.000000e-02:7>>
!d = tensor<1x2x5x6x!quant.uniform<i8:f32, 5.000000e-02:-128>>

func.func @f(%x: !x) -> !y {
  // Pointwise: no tap loops; four output channels share one load of x; 32-bit sums; the high word of
  // the 64-bit product is rounded and shifted; zero point and clamp.

  // POINTWISE:      func.func @conv2d_{{.*}}(%[[X:.*]]: memref<4x5x6xi8>, %[[W:.*]]: memref<4x1x1x6xi8>, %[[BIAS:.*]]: memref<4xi32>, %[[M:.*]]: memref<4xi32>, %[[SHIFT:.*]]: memref<4xi8>, %[[Y:.*]]: memref<4x5x4xi8>) {
  // POINTWISE:      scf.for %[[H:.*]] = %c0 to %c4 step %c1 {
  // POINTWISE-NEXT:   scf.for %[[V:.*]] = %c0 to %c5 step %c1 {
  // POINTWISE-NEXT:     %[[SUMS:.*]]:4 = scf.for %[[C:.*]] = %c0 to %c6 step %c1 iter_args({{.*}}) -> (i32, i32, i32, i32) {
  // POINTWISE-NEXT:       memref.load %[[X]][%[[H]], %[[V]], %[[C]]]
  // POINTWISE-COUNT-4:    memref.load %[[W]]
  // POINTWISE:            scf.yield
  // POINTWISE-NEXT:     }
  // POINTWISE-NEXT:     %[[B:.*]] = memref.load %[[BIAS]][%c0]
  // POINTWISE-NEXT:     %[[ACC:.*]] = arith.addi %[[SUMS]]#0, %[[B]] : i32
  // POINTWISE:          %[[PRODUCT:.*]] = arith.muli %{{.*}}, %{{.*}} : i64
  // POINTWISE:          %[[WORD:.*]] = arith.shrsi %[[PRODUCT]], %c32_i64 : i64
  // POINTWISE-NEXT:     %[[HIGH:.*]] = arith.trunci %[[WORD]] : i64 to i32
  // POINTWISE:          %[[ROUNDED:.*]] = arith.addi %[[HIGH]], %{{.*}} : i32
  // POINTWISE-NEXT:     %[[SHIFTED:.*]] = arith.shrsi %[[ROUNDED]], %{{.*}} : i32
  // POINTWISE-NEXT:     %[[VALUE:.*]] = arith.addi %[[SHIFTED]], %c7_i32 : i32
  // POINTWISE-NEXT:     arith.minsi %[[VALUE]], %c127_i32 : i32
  // POINTWISE-NEXT:     arith.maxsi %{{.*}}, %c-128_i32 : i32
  // POINTWISE-NOT:  arith.cmpi
  %w = "tiny.parameter"() {symbol = "w", value = dense<1> : tensor<4x1x1x6xi8>} : () -> tensor<4x1x1x6xi8>
  %b = "tiny.parameter"() {symbol = "b", value = dense<1> : tensor<4xi32>} : () -> tensor<4xi32>
  %y = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "pointwise", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.001> : tensor<4xf64>} : (!x, tensor<4x1x1x6xi8>, tensor<4xi32>) -> !y

  // Rows 1 above, none below, stride 2: only the lower end of the taps needs a bound in a row, and only
  // the columns need both. The mask of six channels is one byte a pixel.

  // PADDED:      func.func @conv2d_{{.*}}memref<10x1xi8>) {
  // PADDED:      scf.for %[[H:.*]] = %c0 to %c2 step %c1 {
  // PADDED:        %[[START:.*]] = arith.subi %{{.*}}, %c1 : index
  // PADDED-NEXT:   %[[ABOVE:.*]] = arith.subi %c0, %[[START]] : index
  // PADDED-NEXT:   %[[ROW:.*]] = arith.maxsi %[[ABOVE]], %c0 : index
  // PADDED-NOT:    arith.minsi
  // PADDED:        %[[LEFT:.*]] = arith.maxsi
  // PADDED:        %[[RIGHT:.*]] = arith.minsi
  // PADDED:        scf.for %{{.*}} = %[[ROW]] to %c3 step %c1
  // PADDED-NEXT:     scf.for %{{.*}} = %[[LEFT]] to %[[RIGHT]] step %c1
  %dw = "tiny.parameter"() {symbol = "dw", value = dense<1> : tensor<6x3x3x1xi8>} : () -> tensor<6x3x3x1xi8>
  %db = "tiny.parameter"() {symbol = "db", value = dense<1> : tensor<6xi32>} : () -> tensor<6xi32>
  %d:2 = "tiny.conv2d"(%x, %dw, %db) {clamp = array<i64: -128, 127>, groups = 6 : i64, layer = "padded", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 2, 1>, weight_scales = dense<0.001> : tensor<6xf64>} : (!x, tensor<6x3x3x1xi8>, tensor<6xi32>) -> (!d, tensor<1x2x5x6xi1>)

  // A partly trained weight: the frozen sums (zeros stand at the trained channels) are carried on by
  // a second loop over the chosen channels, which reads int16 masters.

  // PARTIAL:      func.func @conv2d_{{.*}}(%[[X:.*]]: memref<4x5x6xi8>, %[[T:.*]]: memref<4x1x1x2xi16>, %[[CHANNELS:.*]]: memref<2xi16>, %[[W:.*]]: memref<4x1x1x6xi8>,
  // PARTIAL:      %[[SUMS:.*]]:4 = scf.for %{{.*}} = %c0 to %c6 step %c1
  // PARTIAL:      scf.for %[[J:.*]] = %c0 to %c2 step %c1 iter_args(%{{.*}} = %[[SUMS]]#0, %{{.*}} = %[[SUMS]]#1,
  // PARTIAL-NEXT:   memref.load %[[CHANNELS]][%[[J]]] : memref<2xi16>
  // PARTIAL:        %[[MASTER:.*]] = memref.load %[[T]][%c0, %c0, %c0, %[[J]]] : memref<4x1x1x2xi16>
  // PARTIAL-NEXT:   %[[WIDE:.*]] = arith.extsi %[[MASTER]] : i16 to i32
  // PARTIAL-NEXT:   arith.shrsi %[[WIDE]], %c8_i32 : i32
  %t = "tiny.parameter"() {symbol = "w.trained", trained, value = dense<384> : tensor<4x1x1x2xi16>} : () -> tensor<4x1x1x2xi16>
  %p = "tiny.conv2d"(%x, %w, %b, %t) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "partial", operandSegmentSizes = array<i32: 1, 1, 1, 1>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, trained_channels = array<i64: 1, 4>, weight_scales = dense<0.001> : tensor<4xf64>} : (!x, tensor<4x1x1x6xi8>, tensor<4xi32>, tensor<4x1x1x2xi16>) -> !y

  // A bias at the end of int32 is added in 64 bits, to sums that still fit 32.

  // SATURATED: -> (i32, i32, i32, i32) {
  // SATURATED: %[[SUM:.*]] = arith.extsi %{{.*}}#0 : i32 to i64
  // SATURATED: %[[BIAS:.*]] = arith.extsi %{{.*}} : i32 to i64
  // SATURATED: arith.addi %[[SUM]], %[[BIAS]] : i64
  %sb = "tiny.parameter"() {symbol = "sb", value = dense<[0, 2147483647, -2147483648, 1]> : tensor<4xi32>} : () -> tensor<4xi32>
  %s = "tiny.conv2d"(%x, %w, %sb) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "saturated", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.001> : tensor<4xf64>} : (!x, tensor<4x1x1x6xi8>, tensor<4xi32>) -> !y
  return %s : !y
}
