// RUN: %tiny-opt %s -p tiny-check-plan --split-input-file --verify-diagnostics

// A good plan: the sum replaces %y, which dies; the argument's bytes are used again after its last use.

!q = tensor<1x1x2x4x!quant.uniform<i8:f32, 5.000000e-01:0>>
func.func @infer(%x: !q) -> !q attributes {tiny.arena_bytes = 16 : i64, tiny.arena_lower_bound_bytes = 16 : i64, tiny.argument_offsets = array<i64: 0>, tiny.state_bytes = 0 : i64} {
  %y = "tiny.gather_channels"(%x) {channels = array<i64: 3, 2, 1, 0>, tiny.offsets = array<i64: 8>} : (!q) -> !q
  %s = "tiny.add"(%y, %y) {clamp = array<i64: -128, 127>, resultSegmentSizes = array<i32: 1, 0>, tiny.offsets = array<i64: 8>} : (!q, !q) -> !q
  %z = "tiny.gather_channels"(%s) {channels = array<i64: 3, 2, 1, 0>, tiny.offsets = array<i64: 0>} : (!q) -> !q
  return %z : !q
}

// -----

// A gather is not elementwise: it may not replace its operand.

!q = tensor<1x1x2x4x!quant.uniform<i8:f32, 5.000000e-01:0>>
func.func @infer(%x: !q) -> !q attributes {tiny.arena_bytes = 16 : i64, tiny.arena_lower_bound_bytes = 16 : i64, tiny.argument_offsets = array<i64: 0>, tiny.state_bytes = 0 : i64} {
  // expected-error@+1 {{result 0 of tiny.gather_channels (g) overwrites argument 0, which is still needed}}
  %y = "tiny.gather_channels"(%x) {channels = array<i64: 3, 2, 1, 0>, layer = "g", tiny.offsets = array<i64: 0>} : (!q) -> !q
  return %y : !q
}

// -----

// Nor may an elementwise op replace an operand that is read again.

!q = tensor<1x1x2x4x!quant.uniform<i8:f32, 5.000000e-01:0>>
func.func @infer(%x: !q) -> (!q, !q) attributes {tiny.arena_bytes = 16 : i64, tiny.arena_lower_bound_bytes = 16 : i64, tiny.argument_offsets = array<i64: 0>, tiny.state_bytes = 0 : i64} {
  // expected-error@+1 {{result 0 of tiny.add overwrites argument 0, which is still needed}}
  %y = "tiny.add"(%x, %x) {clamp = array<i64: -128, 127>, resultSegmentSizes = array<i32: 1, 0>, tiny.offsets = array<i64: 0>} : (!q, !q) -> !q
  return %x, %y : !q, !q
}

// -----

// Nor one that is spread over more pixels, though their bytes are as many: it is read for each.

func.func @infer(%g: tensor<1x1x1x4xi16>, %h: tensor<2xi32>) -> tensor<1x1x2x4xi8> attributes {tiny.arena_bytes = 24 : i64, tiny.arena_lower_bound_bytes = 24 : i64, tiny.argument_offsets = array<i64: 0, 8>, tiny.state_bytes = 0 : i64} {
  // expected-error@+1 {{result 0 of tiny.normalize_gradient overwrites argument 0, which is still needed}}
  %x, %xh = "tiny.normalize_gradient"(%g, %h) {bits = 8 : i64, multipliers = dense<1> : tensor<1xi16>, operandSegmentSizes = array<i32: 1, 1, 0>, overshoot = 0 : i64, scale = 0 : i64, tiny.offsets = array<i64: 0, 16>} : (tensor<1x1x1x4xi16>, tensor<2xi32>) -> (tensor<1x1x2x4xi8>, tensor<2xi32>)
  return %x : tensor<1x1x2x4xi8>
}

// -----

// A mask of 4 channels takes a byte a pixel; at 6 it is not aligned.

!q = tensor<1x1x2x4x!quant.uniform<i8:f32, 5.000000e-01:0>>
func.func @infer(%x: !q) -> !q attributes {tiny.arena_bytes = 24 : i64, tiny.arena_lower_bound_bytes = 24 : i64, tiny.argument_offsets = array<i64: 0>, tiny.state_bytes = 0 : i64} {
  // expected-error@+1 {{result 1 of tiny.add at 18 is not aligned to 4}}
  %y, %m = "tiny.add"(%x, %x) {clamp = array<i64: -128, 127>, resultSegmentSizes = array<i32: 1, 1>, tiny.offsets = array<i64: 8, 18>} : (!q, !q) -> (!q, tensor<1x1x2x4xi1>)
  return %y : !q
}

// -----

// The state region holds every trained parameter, each in its own place.

module {
  func.func @infer() attributes {tiny.arena_bytes = 0 : i64, tiny.arena_lower_bound_bytes = 0 : i64, tiny.argument_offsets = array<i64>, tiny.state_bytes = 8 : i64} {
    %a = "tiny.parameter"() {symbol = "a", tiny.state_offset = 0 : i64, trained, value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
    // expected-error@+1 {{b overlaps a in the state region}}
    %b = "tiny.parameter"() {symbol = "b", tiny.state_offset = 4 : i64, trained, value = dense<1> : tensor<1xi32>} : () -> tensor<1xi32>
    return
  }
}

// -----

// A module that was never planned.

// expected-error@+1 {{has no tiny.arena_bytes}}
func.func @infer() {
  return
}

// -----

func.func @infer() attributes {tiny.arena_bytes = 8 : i64, tiny.arena_lower_bound_bytes = 8 : i64, tiny.argument_offsets = array<i64>, tiny.state_bytes = 0 : i64} {
  // expected-error@+1 {{result 0 of arith.constant has type i64, which has no storage size}}
  %c = "arith.constant"() {value = 1 : i64, tiny.offsets = array<i64: 0>} : () -> i64
  return
}
