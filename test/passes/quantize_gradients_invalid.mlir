// RUN: %tiny-opt %s -p tiny-quantize-gradients --split-input-file --verify-diagnostics

// A gradient that is stored before it is applied: tiny-fuse-updates must run first.

func.func @train_step(%x: tensor<1x1x1x2x!quant.uniform<i8:f32, 0.5>>, %label: tensor<i32>) {
  %logits = "tiny.dequantize"(%x) : (tensor<1x1x1x2x!quant.uniform<i8:f32, 0.5>>) -> tensor<1x1x1x2xf32>
  %g = "tiny.softmax_cross_entropy_grad"(%logits, %label) : (tensor<1x1x1x2xf32>, tensor<i32>) -> tensor<1x1x1x2xf32>
  // expected-error@+1 {{'tiny.bias_grad' has no integer form; use --gradients float32}}
  %gb = "tiny.bias_grad"(%g) {layer = "a", scales = dense<1.0> : tensor<2xf32>} : (tensor<1x1x1x2xf32>) -> tensor<2xf32>
  return
}

// -----

// The derivative of an op of the user's own, such as a negation.

func.func @train_step(%x: tensor<1x2x2x1x!quant.uniform<i8:f32, 0.5>>, %q: tensor<1x1x1x1x!quant.uniform<i8:f32, 0.5>>, %label: tensor<i32>, %rate: tensor<f32>) {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<1x1x1x1xi16>} : () -> tensor<1x1x1x1xi16>
  %logits = "tiny.dequantize"(%q) : (tensor<1x1x1x1x!quant.uniform<i8:f32, 0.5>>) -> tensor<1x1x1x1xf32>
  %gl = "tiny.softmax_cross_entropy_grad"(%logits, %label) : (tensor<1x1x1x1xf32>, tensor<i32>) -> tensor<1x1x1x1xf32>
  %gy = "tiny.global_average_pool_grad"(%gl) : (tensor<1x1x1x1xf32>) -> tensor<1x2x2x1xf32>
  // expected-error@+1 {{multiplies a gradient by -0.5; integer gradients take positive factors; use --gradients float32}}
  %g = "tiny.scale_gradient"(%gy) {factor = -0.5 : f32, layer = "mine", operandSegmentSizes = array<i32: 1, 0>} : (tensor<1x2x2x1xf32>) -> tensor<1x2x2x1xf32>
  "tiny.conv2d_weight_update"(%w, %x, %g, %rate) {factors = dense<1.0> : tensor<1xf32>, groups = 1 : i64, layer = "a", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x1x1x1xi16>, tensor<1x2x2x1x!quant.uniform<i8:f32, 0.5>>, tensor<1x2x2x1xf32>, tensor<f32>) -> ()
  return
}

// -----

func.func @train_step(%logits: tensor<1x2xf32>, %label: tensor<i32>) {
  // expected-error@+1 {{expects logits of a tiny.linear or a tiny.dequantize}}
  %g = "tiny.softmax_cross_entropy_grad"(%logits, %label) : (tensor<1x2xf32>, tensor<i32>) -> tensor<1x2xf32>
  return
}

// -----

func.func @train_step(%x: tensor<1x2xf32>) {
  %w = "tiny.parameter"() {symbol = "w", value = dense<1.0> : tensor<3x2xf32>} : () -> tensor<3x2xf32>
  %b = "tiny.parameter"() {symbol = "b", value = dense<1.0> : tensor<3xf32>} : () -> tensor<3xf32>
  // expected-error@+1 {{expects its input to be a tiny.dequantize result}}
  %y = "tiny.linear"(%x, %w, %b) : (tensor<1x2xf32>, tensor<3x2xf32>, tensor<3xf32>) -> tensor<1x3xf32>
  return
}

// -----

func.func @train_step(%q: tensor<1x1x1x2x!quant.uniform<i8:f32, 0.5>>) {
  %x = "tiny.dequantize"(%q) : (tensor<1x1x1x2x!quant.uniform<i8:f32, 0.5>>) -> tensor<1x1x1x2xf32>
  %w = "tiny.parameter"() {symbol = "w", value = dense<5000.0> : tensor<3x2xf32>} : () -> tensor<3x2xf32>
  %b = "tiny.parameter"() {symbol = "b", value = dense<1.0> : tensor<3xf32>} : () -> tensor<3xf32>
  // expected-error@+1 {{has a weight or bias of 5000; the integer head ends at 4096}}
  %y = "tiny.linear"(%x, %w, %b) {layer = "head"} : (tensor<1x1x1x2xf32>, tensor<3x2xf32>, tensor<3xf32>) -> tensor<1x3xf32>
  return
}

// -----

func.func @train_step(%q: tensor<1x1x1x2x!quant.uniform<i8:f32, 200.0>>, %label: tensor<i32>) {
  %x = "tiny.dequantize"(%q) : (tensor<1x1x1x2x!quant.uniform<i8:f32, 200.0>>) -> tensor<1x1x1x2xf32>
  // expected-error@+1 {{reads values of scale 200; the integer head ends at 128}}
  %loss = "tiny.softmax_cross_entropy"(%x, %label) : (tensor<1x1x1x2xf32>, tensor<i32>) -> tensor<f32>
  return
}

// -----

// The sums over two million pixels leave too few bits.
!x = tensor<1x2048x1024x1x!quant.uniform<i8:f32, 0.5:-128>>
!g = tensor<1x2048x1024x1xf32>
func.func @train_step(%x: !x, %mask: tensor<1x2048x1024x1xi1>, %q: tensor<1x1x1x1x!quant.uniform<i8:f32, 0.5>>, %label: tensor<i32>, %rate: tensor<f32>) {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<1x1x1x1xi16>} : () -> tensor<1x1x1x1xi16>
  %logits = "tiny.dequantize"(%q) : (tensor<1x1x1x1x!quant.uniform<i8:f32, 0.5>>) -> tensor<1x1x1x1xf32>
  %gl = "tiny.softmax_cross_entropy_grad"(%logits, %label) : (tensor<1x1x1x1xf32>, tensor<i32>) -> tensor<1x1x1x1xf32>
  %gy = "tiny.global_average_pool_grad"(%gl) : (tensor<1x1x1x1xf32>) -> !g
  %g = "tiny.scale_gradient"(%gy, %mask) {factor = 1.0 : f32, operandSegmentSizes = array<i32: 1, 1>} : (!g, tensor<1x2048x1024x1xi1>) -> !g
  // expected-error@+1 {{32-bit sums leave 3 bits for the gradient, at least 4 are needed; use --gradients float32}}
  "tiny.conv2d_weight_update"(%w, %x, %g, %rate) {factors = dense<1.0> : tensor<1xf32>, groups = 1 : i64, layer = "a", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x1x1x1xi16>, !x, !g, tensor<f32>) -> ()
  return
}

// -----

func.func @train_step(%x: tensor<1x2x2x1x!quant.uniform<i8:f32, 0.5>>, %mask: tensor<1x2x2x1xi1>, %q: tensor<1x1x1x1x!quant.uniform<i8:f32, 0.5>>, %label: tensor<i32>, %rate: tensor<f32>) {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<1x1x1x1xi32>} : () -> tensor<1x1x1x1xi32>
  %logits = "tiny.dequantize"(%q) : (tensor<1x1x1x1x!quant.uniform<i8:f32, 0.5>>) -> tensor<1x1x1x1xf32>
  %gl = "tiny.softmax_cross_entropy_grad"(%logits, %label) : (tensor<1x1x1x1xf32>, tensor<i32>) -> tensor<1x1x1x1xf32>
  %gy = "tiny.global_average_pool_grad"(%gl) : (tensor<1x1x1x1xf32>) -> tensor<1x2x2x1xf32>
  // expected-error@+1 {{updates i32 weights, for which there is no integer form}}
  "tiny.conv2d_weight_update"(%w, %x, %gy, %rate) {factors = dense<1.0> : tensor<1xf32>, groups = 1 : i64, layer = "a", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x1x1x1xi32>, tensor<1x2x2x1x!quant.uniform<i8:f32, 0.5>>, tensor<1x2x2x1xf32>, tensor<f32>) -> ()
  return
}
