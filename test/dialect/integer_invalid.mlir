// RUN: %tiny-opt %s --split-input-file --verify-diagnostics

// What each op of the integer gradients refuses, with the reason at its place.

// Mantissas are i8 or i16.
func.func @normalize_gradient(%g: tensor<1x2x2x3xf32>, %h: tensor<2xi32>) {
  // expected-error@+1 {{expects g of i8 or i16 elements}}
  %m, %mh = "tiny.normalize_gradient"(%g, %h) {bits = 16 : i64, multipliers = dense<1> : tensor<1xi16>, operandSegmentSizes = array<i32: 1, 1, 0>, overshoot = 0 : i64, scale = 0 : i64} : (tensor<1x2x2x3xf32>, tensor<2xi32>) -> (tensor<1x2x2x3xi16>, tensor<2xi32>)
  return
}

// -----

func.func @normalize_gradient(%g: tensor<1x2x2x3xi16>, %h: tensor<2xi16>) {
  // expected-error@+1 {{expects header of g of i32 elements}}
  %m, %mh = "tiny.normalize_gradient"(%g, %h) {bits = 16 : i64, multipliers = dense<1> : tensor<1xi16>, operandSegmentSizes = array<i32: 1, 1, 0>, overshoot = 0 : i64, scale = 0 : i64} : (tensor<1x2x2x3xi16>, tensor<2xi16>) -> (tensor<1x2x2x3xi16>, tensor<2xi32>)
  return
}

// -----

// More bits than the result holds.
func.func @normalize_gradient(%g: tensor<1x2x2x3xi16>, %h: tensor<2xi32>) {
  // expected-error@+1 {{expects bits within [2, 8], got 9}}
  %m, %mh = "tiny.normalize_gradient"(%g, %h) {bits = 9 : i64, multipliers = dense<1> : tensor<1xi16>, operandSegmentSizes = array<i32: 1, 1, 0>, overshoot = 0 : i64, scale = 0 : i64} : (tensor<1x2x2x3xi16>, tensor<2xi32>) -> (tensor<1x2x2x3xi8>, tensor<2xi32>)
  return
}

// -----

func.func @normalize_gradient(%g: tensor<1x2x2x3xi16>, %h: tensor<2xi32>) {
  // expected-error@+1 {{expects multipliers as dense tensor<3xi16>, got tensor<2xi16>}}
  %m, %mh = "tiny.normalize_gradient"(%g, %h) {bits = 8 : i64, multipliers = dense<1> : tensor<2xi16>, operandSegmentSizes = array<i32: 1, 1, 0>, overshoot = 0 : i64, scale = 0 : i64} : (tensor<1x2x2x3xi16>, tensor<2xi32>) -> (tensor<1x2x2x3xi8>, tensor<2xi32>)
  return
}

// -----

func.func @normalize_gradient(%g: tensor<1x2x2x3xi16>, %h: tensor<2xi32>) {
  // expected-error@+1 {{expects multipliers of at least 0}}
  %m, %mh = "tiny.normalize_gradient"(%g, %h) {bits = 8 : i64, multipliers = dense<-1> : tensor<1xi16>, operandSegmentSizes = array<i32: 1, 1, 0>, overshoot = 0 : i64, scale = 0 : i64} : (tensor<1x2x2x3xi16>, tensor<2xi32>) -> (tensor<1x2x2x3xi8>, tensor<2xi32>)
  return
}

// -----

// Only one pixel can be spread.
func.func @normalize_gradient(%g: tensor<1x1x2x3xi16>, %h: tensor<2xi32>) {
  // expected-error@+1 {{expects g that is spread of shape [1, 1, 1, 3]}}
  %m, %mh = "tiny.normalize_gradient"(%g, %h) {bits = 8 : i64, multipliers = dense<1> : tensor<1xi16>, operandSegmentSizes = array<i32: 1, 1, 0>, overshoot = 0 : i64, scale = 0 : i64} : (tensor<1x1x2x3xi16>, tensor<2xi32>) -> (tensor<1x2x2x3xi8>, tensor<2xi32>)
  return
}

// -----

// A sum needs all 16 bits.
func.func @integer_add_gradients(%g: tensor<1x2x2x3xi16>, %h: tensor<2xi32>) {
  // expected-error@+1 {{expects gx of i16 elements}}
  %m, %mh = "tiny.integer_add_gradients"(%g, %h, %g, %h) : (tensor<1x2x2x3xi16>, tensor<2xi32>, tensor<1x2x2x3xi16>, tensor<2xi32>) -> (tensor<1x2x2x3xi8>, tensor<2xi32>)
  return
}

// -----

// A float32 master has no integer gradient.
func.func @integer_conv2d_input_grad(%g: tensor<1x2x2x3xi16>, %h: tensor<2xi32>, %w: tensor<3x1x1x3xf32>) {
  // expected-error@+1 {{expects weights of i8 or i16 elements}}
  %m, %mh = "tiny.integer_conv2d_input_grad"(%g, %h, %w) {groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, shift = 3 : i64, strides = array<i64: 1, 1>} : (tensor<1x2x2x3xi16>, tensor<2xi32>, tensor<3x1x1x3xf32>) -> (tensor<1x2x2x3xi16>, tensor<2xi32>)
  return
}

// -----

func.func @integer_conv2d_input_grad(%g: tensor<1x2x2x3xi16>, %h: tensor<2xi32>, %w: tensor<3x1x1x3xi8>) {
  // expected-error@+1 {{expects shift within [0, 31], got 32}}
  %m, %mh = "tiny.integer_conv2d_input_grad"(%g, %h, %w) {groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, shift = 32 : i64, strides = array<i64: 1, 1>} : (tensor<1x2x2x3xi16>, tensor<2xi32>, tensor<3x1x1x3xi8>) -> (tensor<1x2x2x3xi16>, tensor<2xi32>)
  return
}

// -----

func.func @integer_conv2d_input_grad(%g: tensor<1x2x2x3xi16>, %h: tensor<2xi32>, %w: tensor<3x3x3x3xi8>) {
  // expected-error@+1 {{has an empty output}}
  %m, %mh = "tiny.integer_conv2d_input_grad"(%g, %h, %w) {groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, shift = 3 : i64, strides = array<i64: 1, 1>} : (tensor<1x2x2x3xi16>, tensor<2xi32>, tensor<3x3x3x3xi8>) -> (tensor<1x2x2x3xi16>, tensor<2xi32>)
  return
}

// -----

// No weight is stored as i32.
func.func @integer_conv2d_weight_update(%x: tensor<1x2x2x3x!quant.uniform<i8:f32, 0.5>>, %g: tensor<1x2x2x3xi16>, %h: tensor<2xi32>, %rate: tensor<f32>) {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<3x1x1x3xi32>} : () -> tensor<3x1x1x3xi32>
  // expected-error@+1 {{expects parameter of i8 or i16 or f32 elements}}
  "tiny.integer_conv2d_weight_update"(%w, %x, %g, %h, %rate) {align = 0 : i64, factors = dense<1.0> : tensor<3xf32>, groups = 1 : i64, pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<3x1x1x3xi32>, tensor<1x2x2x3x!quant.uniform<i8:f32, 0.5>>, tensor<1x2x2x3xi16>, tensor<2xi32>, tensor<f32>) -> ()
  return
}

// -----

func.func @integer_conv2d_weight_update(%x: tensor<1x2x2x3x!quant.uniform<i8:f32, 0.5>>, %g: tensor<1x2x2x3xi16>, %h: tensor<2xi32>, %rate: tensor<f32>) {
  %w = "tiny.parameter"() {symbol = "w", value = dense<1> : tensor<3x1x1x3xi16>} : () -> tensor<3x1x1x3xi16>
  // expected-error@+1 {{updates a parameter that is not marked trained}}
  "tiny.integer_conv2d_weight_update"(%w, %x, %g, %h, %rate) {align = 0 : i64, factors = dense<1.0> : tensor<3xf32>, groups = 1 : i64, pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<3x1x1x3xi16>, tensor<1x2x2x3x!quant.uniform<i8:f32, 0.5>>, tensor<1x2x2x3xi16>, tensor<2xi32>, tensor<f32>) -> ()
  return
}

// -----

func.func @integer_conv2d_weight_update(%x: tensor<1x2x2x3x!quant.uniform<i8:f32, 0.5>>, %g: tensor<1x3x2x3xi16>, %h: tensor<2xi32>, %rate: tensor<f32>) {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<3x1x1x3xi16>} : () -> tensor<3x1x1x3xi16>
  // expected-error@+1 {{expects a gradient of spatial shape (2, 2)}}
  "tiny.integer_conv2d_weight_update"(%w, %x, %g, %h, %rate) {align = 0 : i64, factors = dense<1.0> : tensor<3xf32>, groups = 1 : i64, pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<3x1x1x3xi16>, tensor<1x2x2x3x!quant.uniform<i8:f32, 0.5>>, tensor<1x3x2x3xi16>, tensor<2xi32>, tensor<f32>) -> ()
  return
}

// -----

func.func @integer_bias_update(%g: tensor<1x2x2x3xi16>, %h: tensor<2xi32>, %rate: tensor<f32>) {
  %b = "tiny.parameter"() {symbol = "b", trained, value = dense<1.0> : tensor<3xf32>} : () -> tensor<3xf32>
  // expected-error@+1 {{expects align of 0 for an f32 parameter}}
  "tiny.integer_bias_update"(%b, %g, %h, %rate) {align = 1 : i64, factors = dense<1.0> : tensor<3xf32>} : (tensor<3xf32>, tensor<1x2x2x3xi16>, tensor<2xi32>, tensor<f32>) -> ()
  return
}

// -----

// The head: features of too large a scale, fraction bits, shapes, classes.
func.func @integer_linear(%x: tensor<1x1x1x2x!quant.uniform<i8:f32, 128.0>>, %w: tensor<3x2xi32>, %b: tensor<3xi32>) {
  // expected-error@+1 {{expects a scale of x below 128, got 128}}
  %y = "tiny.integer_linear"(%x, %w, %b) {fraction = 24 : i64} : (tensor<1x1x1x2x!quant.uniform<i8:f32, 128.0>>, tensor<3x2xi32>, tensor<3xi32>) -> tensor<1x3xi32>
  return
}

// -----

func.func @integer_linear(%x: tensor<1x1x1x2x!quant.uniform<i8:f32, 1.0>>, %w: tensor<3x2xi32>, %b: tensor<3xi32>) {
  // expected-error@+1 {{expects fraction within [16, 30], got 15}}
  %y = "tiny.integer_linear"(%x, %w, %b) {fraction = 15 : i64} : (tensor<1x1x1x2x!quant.uniform<i8:f32, 1.0>>, tensor<3x2xi32>, tensor<3xi32>) -> tensor<1x3xi32>
  return
}

// -----

func.func @integer_linear_input_grad(%g: tensor<1x3xi16>, %h: tensor<2xi32>, %w: tensor<3x2xi32>) {
  // expected-error@+1 {{expects a gradient of 2 features}}
  %y, %yh = "tiny.integer_linear_input_grad"(%g, %h, %w) {fraction = 24 : i64} : (tensor<1x3xi16>, tensor<2xi32>, tensor<3x2xi32>) -> (tensor<1x1x1x3xi16>, tensor<2xi32>)
  return
}

// -----

func.func @integer_linear_weight_update(%x: tensor<1x1x1x2x!quant.uniform<i8:f32, 1.0>>, %g: tensor<1x3xi16>, %h: tensor<2xi32>, %rate: tensor<f32>) {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<3x4xi32>} : () -> tensor<3x4xi32>
  // expected-error@+1 {{expects parameter of shape [3, 2]}}
  "tiny.integer_linear_weight_update"(%w, %x, %g, %h, %rate) {factors = dense<1.0> : tensor<3xf32>} : (tensor<3x4xi32>, tensor<1x1x1x2x!quant.uniform<i8:f32, 1.0>>, tensor<1x3xi16>, tensor<2xi32>, tensor<f32>) -> ()
  return
}

// -----

func.func @integer_softmax_cross_entropy(%logits: tensor<1x8193xi32>, %label: tensor<i32>) {
  // expected-error@+1 {{expects at most 8192 classes}}
  %loss = "tiny.integer_softmax_cross_entropy"(%logits, %label) : (tensor<1x8193xi32>, tensor<i32>) -> tensor<i32>
  return
}

// -----

func.func @integer_softmax_cross_entropy_grad(%logits: tensor<1x3xi32>, %label: tensor<i32>) {
  // expected-error@+1 {{expects gx of shape [1, 3]}}
  %g, %h = "tiny.integer_softmax_cross_entropy_grad"(%logits, %label) : (tensor<1x3xi32>, tensor<i32>) -> (tensor<3xi16>, tensor<2xi32>)
  return
}

// -----

func.func @dequantize_fixed(%x: tensor<1x1x1x2x!quant.uniform<i8:f32, 1.0>>) {
  // expected-error@+1 {{expects y of i32 elements}}
  %y = "tiny.dequantize_fixed"(%x) : (tensor<1x1x1x2x!quant.uniform<i8:f32, 1.0>>) -> tensor<1x1x1x2xf32>
  return
}

// -----

func.func @fixed_to_float(%x: tensor<3xi32>) {
  // expected-error@+1 {{expects y of shape [3]}}
  %y = "tiny.fixed_to_float"(%x) : (tensor<3xi32>) -> tensor<1x3xf32>
  return
}

// -----

func.func @integer_stochastic_conv2d_weight_update(%x: tensor<1x2x2x3x!quant.uniform<i8:f32, 0.5>>, %g: tensor<1x2x2x3xi16>, %h: tensor<2xi32>, %rate: tensor<f32>, %n: tensor<1xi32>) {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<3x1x1x3xi16>} : () -> tensor<3x1x1x3xi16>
  // expected-error@+1 {{expects parameter of i8 elements}}
  "tiny.integer_stochastic_conv2d_weight_update"(%w, %x, %g, %h, %rate, %n) {align = 0 : i64, factors = dense<1.0> : tensor<3xf32>, groups = 1 : i64, pads = array<i64: 0, 0, 0, 0>, stream = 1 : i64, strides = array<i64: 1, 1>} : (tensor<3x1x1x3xi16>, tensor<1x2x2x3x!quant.uniform<i8:f32, 0.5>>, tensor<1x2x2x3xi16>, tensor<2xi32>, tensor<f32>, tensor<1xi32>) -> ()
  return
}

// -----

func.func @integer_stochastic_conv2d_weight_update(%x: tensor<1x2x2x3x!quant.uniform<i8:f32, 0.5>>, %g: tensor<1x2x2x3xi16>, %h: tensor<2xi32>, %rate: tensor<f32>, %n: tensor<2xi32>) {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<3x1x1x3xi8>} : () -> tensor<3x1x1x3xi8>
  // expected-error@+1 {{expects counter of shape [1], got tensor<2xi32>}}
  "tiny.integer_stochastic_conv2d_weight_update"(%w, %x, %g, %h, %rate, %n) {align = 0 : i64, factors = dense<1.0> : tensor<3xf32>, groups = 1 : i64, pads = array<i64: 0, 0, 0, 0>, stream = 1 : i64, strides = array<i64: 1, 1>} : (tensor<3x1x1x3xi8>, tensor<1x2x2x3x!quant.uniform<i8:f32, 0.5>>, tensor<1x2x2x3xi16>, tensor<2xi32>, tensor<f32>, tensor<2xi32>) -> ()
  return
}

// -----

func.func @integer_stochastic_conv2d_weight_update(%x: tensor<1x2x2x3x!quant.uniform<i8:f32, 0.5>>, %g: tensor<1x2x2x3xi16>, %h: tensor<2xi32>, %rate: tensor<f32>, %n: tensor<1xi32>) {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<3x1x1x3xi8>} : () -> tensor<3x1x1x3xi8>
  // expected-error@+1 {{expects align within [0, 31], got 32}}
  "tiny.integer_stochastic_conv2d_weight_update"(%w, %x, %g, %h, %rate, %n) {align = 32 : i64, factors = dense<1.0> : tensor<3xf32>, groups = 1 : i64, pads = array<i64: 0, 0, 0, 0>, stream = 1 : i64, strides = array<i64: 1, 1>} : (tensor<3x1x1x3xi8>, tensor<1x2x2x3x!quant.uniform<i8:f32, 0.5>>, tensor<1x2x2x3xi16>, tensor<2xi32>, tensor<f32>, tensor<1xi32>) -> ()
  return
}

// -----

func.func @integer_stochastic_conv2d_weight_update(%x: tensor<1x2x2x3x!quant.uniform<i8:f32, 0.5>>, %g: tensor<1x2x2x3xi16>, %h: tensor<2xi32>, %rate: tensor<f32>, %n: tensor<1xi32>) {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<3x1x1x3xi8>} : () -> tensor<3x1x1x3xi8>
  // expected-error@+1 {{expects a stream within [0, 2^32), got 4294967296}}
  "tiny.integer_stochastic_conv2d_weight_update"(%w, %x, %g, %h, %rate, %n) {align = 0 : i64, factors = dense<1.0> : tensor<3xf32>, groups = 1 : i64, pads = array<i64: 0, 0, 0, 0>, stream = 4294967296 : i64, strides = array<i64: 1, 1>} : (tensor<3x1x1x3xi8>, tensor<1x2x2x3x!quant.uniform<i8:f32, 0.5>>, tensor<1x2x2x3xi16>, tensor<2xi32>, tensor<f32>, tensor<1xi32>) -> ()
  return
}
