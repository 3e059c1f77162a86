// RUN: %tiny-opt %s --split-input-file --verify-diagnostics

// What a fused block refuses, with the reason at its place.

!x = tensor<1x4x4x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @yields_too_little(%x: !x) -> !x {
  // expected-error@+1 {{expects yielded values of types (tensor<1x4x4x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>), got ()}}
  %y = "tiny.fused_block"(%x) ({
  ^bb0(%xi: !x):
    "tiny.yield"() {operandSegmentSizes = array<i32: 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0>} : () -> ()
  }) {operandSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0>} : (!x) -> !x
  return %y : !x
}

// -----

!x = tensor<1x4x4x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @other_arguments(%x: !x) -> !x {
  // expected-error@+1 {{expects block arguments of types}}
  %y = "tiny.fused_block"(%x) ({
  ^bb0(%xi: !x, %more: !x):
    "tiny.yield"(%xi) {operandSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0>} : (!x) -> ()
  }) {operandSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0>} : (!x) -> !x
  return %y : !x
}

// -----

!x = tensor<1x4x4x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @uses_what_is_outside(%x: !x, %z: !x) -> !x {
  %y = "tiny.fused_block"(%x) ({
  ^bb0(%xi: !x):
    // expected-error@+1 {{using value defined outside the region}}
    "tiny.yield"(%z) {operandSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0>} : (!x) -> ()
  }) {operandSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0>} : (!x) -> !x
  return %y : !x
}

// -----

!x = tensor<1x4x4x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!p = tensor<1x1x1x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @holds_a_pool(%x: !x) -> !p {
  // expected-error@+1 {{cannot hold 'tiny.global_average_pool'}}
  %y = "tiny.fused_block"(%x) ({
  ^bb0(%xi: !x):
    %p = "tiny.global_average_pool"(%xi) : (!x) -> !p
    "tiny.yield"(%p) {operandSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0>} : (!p) -> ()
  }) {operandSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0>} : (!x) -> !p
  return %y : !p
}
