// RUN: %tiny-opt %s -p tiny-unfuse-blocks | FileCheck %s

// The ops of a fused block stand where the block stood; what it yielded takes the place of its
// results, masks included.

!x = tensor<1x4x4x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!mask = tensor<1x4x4x2xi1>
!w = tensor<2x1x1x2xi8>
!b = tensor<2xi32>
func.func @infer(%x: !x) -> (!x, !mask) {
  %w = "tiny.parameter"() {symbol = "w", value = dense<1> : !w} : () -> !w
  %b = "tiny.parameter"() {symbol = "b", value = dense<1> : !b} : () -> !b
  %y, %m = "tiny.fused_block"(%x, %w, %b) ({
  ^bb0(%xi: !x, %wi: !w, %bi: !b):
    %h, %mi = "tiny.conv2d"(%xi, %wi, %bi) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "a", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<2xf64>} : (!x, !w, !b) -> (!x, !mask)
    %s = "tiny.add"(%h, %xi) {clamp = array<i64: -128, 127>, layer = "b", resultSegmentSizes = array<i32: 1, 0>} : (!x, !x) -> !x
    "tiny.yield"(%s, %mi) {operandSegmentSizes = array<i32: 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0>} : (!x, !mask) -> ()
  }) {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0>} : (!x, !w, !b) -> (!x, !mask)
  return %y, %m : !x, !mask
}

// CHECK-LABEL: func.func @infer(
// CHECK-SAME:    %[[X:.*]]: tensor<1x4x4x2x
// CHECK-NEXT:    %[[W:.*]] = "tiny.parameter"() {symbol = "w"
// CHECK-NEXT:    %[[B:.*]] = "tiny.parameter"() {symbol = "b"
// CHECK-NEXT:    %[[H:.*]]:2 = "tiny.conv2d"(%[[X]], %[[W]], %[[B]]) {{.*}}layer = "a"
// CHECK-NEXT:    %[[S:.*]] = "tiny.add"(%[[H]]#0, %[[X]]) {{.*}}layer = "b"
// CHECK-NEXT:    return %[[S]], %[[H]]#1
