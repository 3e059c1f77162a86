// RUN: %tiny-opt %s --split-input-file --verify-diagnostics

// What each update op refuses, with the reason at its place.

// Only the result of a parameter is state.
func.func @apply_update(%p: tensor<6xi32>, %g: tensor<6xf32>, %rate: tensor<f32>) {
  // expected-error@+1 {{expects its first operand to be a tiny.parameter}}
  "tiny.apply_update"(%p, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6xi32>, tensor<6xf32>, tensor<f32>) -> ()
  return
}

// -----

func.func @apply_update(%g: tensor<6x2xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", value = dense<1> : tensor<6x2xi8>} : () -> tensor<6x2xi8>
  // expected-error@+1 {{updates a parameter that is not marked trained}}
  "tiny.apply_update"(%p_p, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6x2xi8>, tensor<6x2xf32>, tensor<f32>) -> ()
  return
}

// -----

func.func @apply_update(%g: tensor<6x2xf32>, %rate: tensor<f64>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<6x2xi8>} : () -> tensor<6x2xi8>
  // expected-error@+1 {{expects rate of f32 elements}}
  "tiny.apply_update"(%p_p, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6x2xi8>, tensor<6x2xf32>, tensor<f64>) -> ()
  return
}

// -----

func.func @apply_update(%g: tensor<6x2xf32>, %rate: tensor<1xf32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<6x2xi8>} : () -> tensor<6x2xi8>
  // expected-error@+1 {{expects rate of shape []}}
  "tiny.apply_update"(%p_p, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6x2xi8>, tensor<6x2xf32>, tensor<1xf32>) -> ()
  return
}

// -----

func.func @apply_update(%g: tensor<6x2xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<6x2xi8>} : () -> tensor<6x2xi8>
  // expected-error@+1 {{expects factors as dense tensor<6xf32>}}
  "tiny.apply_update"(%p_p, %g, %rate) {factors = dense<1.0> : tensor<5xf32>} : (tensor<6x2xi8>, tensor<6x2xf32>, tensor<f32>) -> ()
  return
}

// -----

func.func @apply_update(%g: tensor<6x2xi8>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<6x2xi8>} : () -> tensor<6x2xi8>
  // expected-error@+1 {{expects gradient of f32 elements}}
  "tiny.apply_update"(%p_p, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6x2xi8>, tensor<6x2xi8>, tensor<f32>) -> ()
  return
}

// -----

func.func @apply_update(%g: tensor<2x6xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<6x2xi8>} : () -> tensor<6x2xi8>
  // expected-error@+1 {{expects gradient of shape [6, 2]}}
  "tiny.apply_update"(%p_p, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6x2xi8>, tensor<2x6xf32>, tensor<f32>) -> ()
  return
}

// -----

func.func @conv2d_weight_update(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %g: tensor<1x5x4x6xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<128> : tensor<6x6xi16>} : () -> tensor<6x6xi16>
  // expected-error@+1 {{expects parameter of rank 4}}
  "tiny.conv2d_weight_update"(%p_p, %x, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>, groups = 2 : i64, pads = array<i64: 1, 0, 1, 0>, strides = array<i64: 1, 1>} : (tensor<6x6xi16>, tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x6xf32>, tensor<f32>) -> ()
  return
}

// -----

func.func @conv2d_weight_update(%x: tensor<1x5x4x4xf32>, %g: tensor<1x5x4x6xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<128> : tensor<6x3x1x2xi16>} : () -> tensor<6x3x1x2xi16>
  // expected-error@+1 {{expects x of quant elements}}
  "tiny.conv2d_weight_update"(%p_p, %x, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>, groups = 2 : i64, pads = array<i64: 1, 0, 1, 0>, strides = array<i64: 1, 1>} : (tensor<6x3x1x2xi16>, tensor<1x5x4x4xf32>, tensor<1x5x4x6xf32>, tensor<f32>) -> ()
  return
}

// -----

func.func @conv2d_weight_update(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %g: tensor<1x5x4x5xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<128> : tensor<6x3x1x2xi16>} : () -> tensor<6x3x1x2xi16>
  // expected-error@+1 {{expects a gradient of 6 channels}}
  "tiny.conv2d_weight_update"(%p_p, %x, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>, groups = 2 : i64, pads = array<i64: 1, 0, 1, 0>, strides = array<i64: 1, 1>} : (tensor<6x3x1x2xi16>, tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x5xf32>, tensor<f32>) -> ()
  return
}

// -----

func.func @conv2d_weight_update(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %g: tensor<1x5x4x6xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<128> : tensor<6x3x1x2xi16>} : () -> tensor<6x3x1x2xi16>
  // expected-error@+1 {{expects factors as dense tensor<6xf32>}}
  "tiny.conv2d_weight_update"(%p_p, %x, %g, %rate) {factors = dense<1.0> : tensor<6xf64>, groups = 2 : i64, pads = array<i64: 1, 0, 1, 0>, strides = array<i64: 1, 1>} : (tensor<6x3x1x2xi16>, tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x6xf32>, tensor<f32>) -> ()
  return
}

// -----

func.func @conv2d_weight_update(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %g: tensor<1x5x4x6xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", value = dense<128> : tensor<6x3x1x2xi16>} : () -> tensor<6x3x1x2xi16>
  // expected-error@+1 {{updates a parameter that is not marked trained}}
  "tiny.conv2d_weight_update"(%p_p, %x, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>, groups = 2 : i64, pads = array<i64: 1, 0, 1, 0>, strides = array<i64: 1, 1>} : (tensor<6x3x1x2xi16>, tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x6xf32>, tensor<f32>) -> ()
  return
}

// -----

func.func @bias_update(%g: tensor<1x5x4x6xi8>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<6xi32>} : () -> tensor<6xi32>
  // expected-error@+1 {{expects g of f32 elements}}
  "tiny.bias_update"(%p_p, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6xi32>, tensor<1x5x4x6xi8>, tensor<f32>) -> ()
  return
}

// -----

func.func @bias_update(%g: tensor<1x5x4x5xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<6xi32>} : () -> tensor<6xi32>
  // expected-error@+1 {{expects parameter of shape [5]}}
  "tiny.bias_update"(%p_p, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6xi32>, tensor<1x5x4x5xf32>, tensor<f32>) -> ()
  return
}

// -----

func.func @linear_weight_update(%x: tensor<1x1x1x4xi8>, %g: tensor<1x6xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<1.000000e+00> : tensor<6x4xf32>} : () -> tensor<6x4xf32>
  // expected-error@+1 {{expects x of f32 elements}}
  "tiny.linear_weight_update"(%p_p, %x, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6x4xf32>, tensor<1x1x1x4xi8>, tensor<1x6xf32>, tensor<f32>) -> ()
  return
}

// -----

func.func @linear_weight_update(%x: tensor<1x1x1x4xf32>, %g: tensor<1x6xi8>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<1.000000e+00> : tensor<6x4xf32>} : () -> tensor<6x4xf32>
  // expected-error@+1 {{expects g of f32 elements}}
  "tiny.linear_weight_update"(%p_p, %x, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6x4xf32>, tensor<1x1x1x4xf32>, tensor<1x6xi8>, tensor<f32>) -> ()
  return
}

// -----

func.func @linear_weight_update(%x: tensor<1x5xf32>, %g: tensor<1x6xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<1.000000e+00> : tensor<6x4xf32>} : () -> tensor<6x4xf32>
  // expected-error@+1 {{expects parameter of shape [6, 5]}}
  "tiny.linear_weight_update"(%p_p, %x, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>} : (tensor<6x4xf32>, tensor<1x5xf32>, tensor<1x6xf32>, tensor<f32>) -> ()
  return
}

// -----

func.func @stochastic_update(%g: tensor<6x2xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<6x2xi16>} : () -> tensor<6x2xi16>
  %n = "tiny.parameter"() {symbol = "n", trained, value = dense<0> : tensor<1xi32>} : () -> tensor<1xi32>
  // expected-error@+1 {{expects parameter of i8 elements}}
  "tiny.stochastic_update"(%p_p, %g, %rate, %n) {factors = dense<1.000000e+00> : tensor<6xf32>, stream = 1 : i64} : (tensor<6x2xi16>, tensor<6x2xf32>, tensor<f32>, tensor<1xi32>) -> ()
  return
}

// -----

func.func @truncate(%g: tensor<6x2xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<6x2xi16>} : () -> tensor<6x2xi16>
  // expected-error@+1 {{expects parameter to truncate of i8 elements}}
  "tiny.apply_update"(%p_p, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>, rounding = "truncate"} : (tensor<6x2xi16>, tensor<6x2xf32>, tensor<f32>) -> ()
  return
}

// -----

func.func @rounding(%g: tensor<6x2xf32>, %rate: tensor<f32>) {
  %p_p = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<6x2xi8>} : () -> tensor<6x2xi8>
  // expected-error@+1 {{expects rounding of nearest or truncate, got up}}
  "tiny.apply_update"(%p_p, %g, %rate) {factors = dense<1.000000e+00> : tensor<6xf32>, rounding = "up"} : (tensor<6x2xi8>, tensor<6x2xf32>, tensor<f32>) -> ()
  return
}

// -----

func.func @advance_counter() {
  %n = "tiny.parameter"() {symbol = "n", value = dense<0> : tensor<1xi32>} : () -> tensor<1xi32>
  // expected-error@+1 {{updates a parameter that is not marked trained}}
  "tiny.advance_counter"(%n) : (tensor<1xi32>) -> ()
  return
}
