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

func.func @infer(%x: tensor<1x2xf32>) -> tensor<1x1xf32> {
  %w = "tiny.parameter"() {symbol = "w", value = dense<1.0> : tensor<1x2xf32>} : () -> tensor<1x2xf32>
  %v = "tiny.parameter"() {symbol = "v", value = dense<1.0> : tensor<1xf32>} : () -> tensor<1xf32>
  %y = "tiny.linear"(%x, %w, %v) : (tensor<1x2xf32>, tensor<1x2xf32>, tensor<1xf32>) -> tensor<1x1xf32>
  // expected-error@+1 {{'arith.negf' has no gradient rule; add one with register_gradient_rule}}
  %z = arith.negf %y : tensor<1x1xf32>
  return %z : tensor<1x1xf32>
}
