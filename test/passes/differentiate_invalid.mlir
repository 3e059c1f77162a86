// RUN: %tiny-opt %s -p tiny-differentiate --split-input-file --verify-diagnostics

// expected-error@+1 {{needs a function @infer; the module has @other}}
module {
  func.func private @other()
}

// -----

// expected-error@+1 {{already has @train_step}}
module {
  func.func private @train_step()
}

// -----

func.func @infer(%x: tensor<1x3xf32>) -> tensor<1x3xf32> {
  // expected-error@+1 {{returns its argument; there is nothing to train}}
  return %x : tensor<1x3xf32>
}

// -----

func.func @infer(%x: tensor<1x3xf32>) -> (tensor<1x3xf32>, tensor<1x3xf32>) {
  // expected-error@+1 {{expects @infer to return the logits and nothing else}}
  return %x, %x : tensor<1x3xf32>, tensor<1x3xf32>
}

// -----

!p = tensor<1x1x1x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @infer(%x: !p) -> tensor<1x1x1x2xf32> {
  %f = "tiny.dequantize"(%x) : (!p) -> tensor<1x1x1x2xf32>
  // expected-error@+1 {{no parameter reaches the logits; there is nothing to train}}
  return %f : tensor<1x1x1x2xf32>
}

// -----

func.func @infer(%x: tensor<1x2xf32>) -> tensor<1x1xf32> {
  %w = "tiny.parameter"() {symbol = "w", value = dense<1.0> : tensor<1x2xf32>} : () -> tensor<1x2xf32>
  // expected-error@+1 {{parameter 'w' occurs twice in the function}}
  %v = "tiny.parameter"() {symbol = "w", value = dense<1.0> : tensor<1xf32>} : () -> tensor<1xf32>
  %y = "tiny.linear"(%x, %w, %v) : (tensor<1x2xf32>, tensor<1x2xf32>, tensor<1xf32>) -> tensor<1x1xf32>
  return %y : tensor<1x1xf32>
}

// -----

// expected-error@+1 {{expects a function of a single block}}
func.func @infer(%x: tensor<1x3xf32>) -> tensor<1x3xf32> {
  cf.br ^end
^end:
  return %x : tensor<1x3xf32>
}

// -----

func.func @infer(%x: tensor<1x2xf32>) -> tensor<1x2xf32> {
  %w = "tiny.parameter"() {symbol = "w", value = dense<1.0> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
  %v = "tiny.parameter"() {symbol = "v", value = dense<1.0> : tensor<2xf32>} : () -> tensor<2xf32>
  %y = "tiny.linear"(%x, %w, %v) : (tensor<1x2xf32>, tensor<2x2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  // expected-error@+1 {{'arith.negf' has no gradient rule; add one with register_gradient_rule}}
  %z = arith.negf %y : tensor<1x2xf32>
  return %z : tensor<1x2xf32>
}

// -----

!p = tensor<1x1x1x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @infer(%x: !p) -> !p {
  %w = "tiny.parameter"() {symbol = "w", value = dense<1> : tensor<2x1x1x2xi8>} : () -> tensor<2x1x1x2xi8>
  %t = "tiny.parameter"() {symbol = "t", trained, value = dense<1> : tensor<2x1x1x1xi16>} : () -> tensor<2x1x1x1xi16>
  %b = "tiny.parameter"() {symbol = "b", value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  // expected-error@+1 {{is already partly trained; differentiate before selecting updates}}
  %y = "tiny.conv2d"(%x, %w, %b, %t) {clamp = array<i64: -128, 127>, groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, trained_channels = array<i64: 1>, weight_scales = dense<0.5> : tensor<2xf64>} : (!p, tensor<2x1x1x2xi8>, tensor<2xi32>, tensor<2x1x1x1xi16>) -> !p
  return %y : !p
}

// -----

// A map of classes: one label says nothing of its pixels.

!p = tensor<1x4x3x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
func.func @infer(%x: !p) -> !p {
  %w = "tiny.parameter"() {symbol = "w", value = dense<1> : tensor<2x1x1x2xi8>} : () -> tensor<2x1x1x2xi8>
  %b = "tiny.parameter"() {symbol = "b", value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %y = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<2xf64>} : (!p, tensor<2x1x1x2xi8>, tensor<2xi32>) -> !p
  // expected-error@+1 {{returns 1x4x3x2; a classifier, which training needs, returns one value a class}}
  return %y : !p
}
