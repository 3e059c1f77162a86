// RUN: %tiny-opt %s --split-input-file --verify-diagnostics

// What each forward op refuses, with the reason at its place.

func.func @parameter() {
  // expected-error@+1 {{expects a non-empty symbol}}
  %r = "tiny.parameter"() {symbol = "", value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  return
}

// -----

func.func @parameter() {
  // expected-error@+1 {{expects a value of its result type tensor<2xi32>, got tensor<3xi32>}}
  %r = "tiny.parameter"() {symbol = "w", value = dense<1> : tensor<3xi32>} : () -> tensor<2xi32>
  return
}

// -----

func.func @parameter() {
  // expected-error@+1 {{expects result of i8 or i16 or f32 or i32 elements, got tensor<2xi64>}}
  %r = "tiny.parameter"() {symbol = "w", value = dense<1> : tensor<2xi64>} : () -> tensor<2xi64>
  return
}

// -----

func.func @parameter() {
  // expected-error@+1 {{expects finite values}}
  %r = "tiny.parameter"() {symbol = "w", value = dense<[1.0, 0x7FC00000]> : tensor<2xf32>} : () -> tensor<2xf32>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4xf32>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects x of quant elements}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4xf32>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects x of rank 4}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x?x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects x of static shape}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x?x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<2x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects x with batch size 1}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<2x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects y of quant elements}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6xf32>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects weights of rank 4}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi32>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects weights of i8 or i16 or f32 elements}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi32>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x3xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects weights of 4 / 2 input channels}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x3xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<5x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects output channels divisible by 2 groups}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<5x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x9x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{has an empty output}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x9x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects output shape [1, 5, 4, 6], got [1, 5, 5, 6]}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x5x6x!quant.uniform<i8:f32, 5.000000e-01:-3>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects two strides of at least 1}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 0>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expected array<i64: ...>}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i32: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects four pads of at least 0}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects four pads of at least 0}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, -1>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects groups of at least 1}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 0 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi8>) {
  // expected-error@+1 {{expects bias of i32 elements}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi8>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<5xi32>) {
  // expected-error@+1 {{expects bias of shape [6]}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<5xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects weight_scales as dense tensor<6xf64>}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<6xf32>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects weight_scales as dense tensor<6xf64>}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<5xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects positive finite weight_scales}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.0> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects positive finite weight_scales}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0x7FF8000000000000> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{has a requantization factor of 2^30 or more}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<1.0e20> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects clamp within [-128, 127]}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: 5, 5>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects clamp within [-128, 127]}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -129, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects mask of i1 elements}}
  %r:2 = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> (tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>, tensor<1x5x4x6xi8>)
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{expects mask of shape [1, 5, 4, 6]}}
  %r:2 = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> (tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>, tensor<1x5x4x5xi1>)
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{has trained_channels but no trained weights}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, trained_channels = array<i64: 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>, %t: tensor<6x3x1x1xi16>) {
  // expected-error@+1 {{has trained weights but no trained_channels}}
  %r = "tiny.conv2d"(%x, %w, %b, %t) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>, tensor<6x3x1x1xi16>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>, %t: tensor<6x3x1x1xi16>) {
  // expected-error@+1 {{expects increasing trained_channels below 2}}
  %r = "tiny.conv2d"(%x, %w, %b, %t) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, trained_channels = array<i64: 2>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>, tensor<6x3x1x1xi16>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>, %t: tensor<6x3x1x2xi16>) {
  // expected-error@+1 {{expects increasing trained_channels below 2}}
  %r = "tiny.conv2d"(%x, %w, %b, %t) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, trained_channels = array<i64: 1, 0>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>, tensor<6x3x1x2xi16>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>, %t: tensor<6x3x1x2xi16>) {
  // expected-error@+1 {{expects increasing trained_channels below 2}}
  %r = "tiny.conv2d"(%x, %w, %b, %t) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, trained_channels = array<i64>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>, tensor<6x3x1x2xi16>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>, %t: tensor<5x3x1x1xi16>) {
  // expected-error@+1 {{expects trained weights of shape [6, 3, 1, 1]}}
  %r = "tiny.conv2d"(%x, %w, %b, %t) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, trained_channels = array<i64: 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>, tensor<5x3x1x1xi16>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{has wrong operandSegmentSizes}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{has wrong resultSegmentSizes}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

func.func @conv2d(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %w: tensor<6x3x1x2xi8>, %b: tensor<6xi32>) {
  // expected-error@+1 {{is malformed}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, resultSegmentSizes = array<i32: 1, 0>, weight_scales = dense<5.000000e-01> : tensor<6xf64>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<6x3x1x2xi8>, tensor<6xi32>) -> tensor<1x5x4x6x!quant.uniform<i8:f32, 2.500000e-01:1>>
  return
}

// -----

// Nothing at all is still a located error.
func.func @conv2d() {
  // expected-error@+1 {{is malformed}}
  "tiny.conv2d"() {operandSegmentSizes = array<i32: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 0, 0>} : () -> ()
  return
}

// -----

func.func @add(%a: tensor<1x2x3x4xf32>, %b: tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) {
  // expected-error@+1 {{expects a of quant elements}}
  %r = "tiny.add"(%a, %b) {clamp = array<i64: -128, 127>, resultSegmentSizes = array<i32: 1, 0>} : (tensor<1x2x3x4xf32>, tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) -> tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>
  return
}

// -----

func.func @add(%a: tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %b: tensor<1x2x3x5x!quant.uniform<i8:f32, 5.000000e-01:-3>>) {
  // expected-error@+1 {{expects b of shape [1, 2, 3, 4]}}
  %r = "tiny.add"(%a, %b) {clamp = array<i64: -128, 127>, resultSegmentSizes = array<i32: 1, 0>} : (tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x2x3x5x!quant.uniform<i8:f32, 5.000000e-01:-3>>) -> tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>
  return
}

// -----

func.func @add(%a: tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %b: tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) {
  // expected-error@+1 {{expects clamp within [-128, 127]}}
  %r = "tiny.add"(%a, %b) {clamp = array<i64: 1>, resultSegmentSizes = array<i32: 1, 0>} : (tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) -> tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>
  return
}

// -----

func.func @add(%a: tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %b: tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) {
  // expected-error@+1 {{expects mask of i1 elements}}
  %r:2 = "tiny.add"(%a, %b) {clamp = array<i64: -128, 127>, resultSegmentSizes = array<i32: 1, 1>} : (tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) -> (tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x2x3x4xi8>)
  return
}

// -----

func.func @global_average_pool(%x: tensor<1x2x3x4xi8>) {
  // expected-error@+1 {{expects x of quant elements}}
  %r = "tiny.global_average_pool"(%x) : (tensor<1x2x3x4xi8>) -> tensor<1x1x1x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>
  return
}

// -----

func.func @global_average_pool(%x: tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) {
  // expected-error@+1 {{expects y of shape [1, 1, 1, 4]}}
  %r = "tiny.global_average_pool"(%x) : (tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) -> tensor<1x1x1x5x!quant.uniform<i8:f32, 5.000000e-01:-3>>
  return
}

// -----

func.func @global_average_pool(%x: tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) {
  // expected-error@+1 {{expects equal quantization of x and y}}
  %r = "tiny.global_average_pool"(%x) : (tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) -> tensor<1x1x1x4x!quant.uniform<i8:f32, 1.0:-3>>
  return
}

// -----

func.func @gather_channels(%x: tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) {
  // expected-error@+1 {{expects channels below 4}}
  %r = "tiny.gather_channels"(%x) {channels = array<i64: 4>} : (tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) -> tensor<1x2x3x1x!quant.uniform<i8:f32, 5.000000e-01:-3>>
  return
}

// -----

func.func @gather_channels(%x: tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) {
  // expected-error@+1 {{expects channels below 4}}
  %r = "tiny.gather_channels"(%x) {channels = array<i64>} : (tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) -> tensor<1x2x3x1x!quant.uniform<i8:f32, 5.000000e-01:-3>>
  return
}

// -----

func.func @gather_channels(%x: tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) {
  // expected-error@+1 {{expects y of shape [1, 2, 3, 2]}}
  %r = "tiny.gather_channels"(%x) {channels = array<i64: 0, 1>} : (tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) -> tensor<1x2x3x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>
  return
}

// -----

func.func @gather_channels(%x: tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) {
  // expected-error@+1 {{expects equal element types of x and y}}
  %r = "tiny.gather_channels"(%x) {channels = array<i64: 0, 1>} : (tensor<1x2x3x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) -> tensor<1x2x3x2x!quant.uniform<i8:f32, 1.0:-3>>
  return
}

// -----

func.func @dequantize(%x: tensor<1x1x1x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) {
  // expected-error@+1 {{expects y of f32 elements}}
  %r = "tiny.dequantize"(%x) : (tensor<1x1x1x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) -> tensor<1x1x1x4xf64>
  return
}

// -----

func.func @dequantize(%x: tensor<1x1x1x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) {
  // expected-error@+1 {{expects y of shape [1, 1, 1, 4]}}
  %r = "tiny.dequantize"(%x) : (tensor<1x1x1x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>) -> tensor<1x4xf32>
  return
}

// -----

func.func @linear(%x: tensor<1x4xi8>, %w: tensor<3x4xf32>, %b: tensor<3xf32>) {
  // expected-error@+1 {{expects x of f32 elements}}
  %r = "tiny.linear"(%x, %w, %b) : (tensor<1x4xi8>, tensor<3x4xf32>, tensor<3xf32>) -> tensor<1x3xf32>
  return
}

// -----

func.func @linear(%x: tensor<1x4xf32>, %w: tensor<12xf32>, %b: tensor<3xf32>) {
  // expected-error@+1 {{expects weights of rank 2}}
  %r = "tiny.linear"(%x, %w, %b) : (tensor<1x4xf32>, tensor<12xf32>, tensor<3xf32>) -> tensor<1x3xf32>
  return
}

// -----

func.func @linear(%x: tensor<1x5xf32>, %w: tensor<3x4xf32>, %b: tensor<3xf32>) {
  // expected-error@+1 {{expects 4 input features}}
  %r = "tiny.linear"(%x, %w, %b) : (tensor<1x5xf32>, tensor<3x4xf32>, tensor<3xf32>) -> tensor<1x3xf32>
  return
}

// -----

func.func @linear(%x: tensor<1x4xf32>, %w: tensor<3x4xf32>, %b: tensor<4xf32>) {
  // expected-error@+1 {{expects bias of shape [3]}}
  %r = "tiny.linear"(%x, %w, %b) : (tensor<1x4xf32>, tensor<3x4xf32>, tensor<4xf32>) -> tensor<1x3xf32>
  return
}

// -----

func.func @linear(%x: tensor<1x4xf32>, %w: tensor<3x4xf32>, %b: tensor<3xf32>) {
  // expected-error@+1 {{expects y of shape [1, 3]}}
  %r = "tiny.linear"(%x, %w, %b) : (tensor<1x4xf32>, tensor<3x4xf32>, tensor<3xf32>) -> tensor<3xf32>
  return
}

// -----

func.func @softmax_cross_entropy(%l: tensor<1x3xi8>, %label: tensor<i32>) {
  // expected-error@+1 {{expects logits of f32 elements}}
  %r = "tiny.softmax_cross_entropy"(%l, %label) : (tensor<1x3xi8>, tensor<i32>) -> tensor<f32>
  return
}

// -----

func.func @softmax_cross_entropy(%l: tensor<1x3xf32>, %label: tensor<i64>) {
  // expected-error@+1 {{expects label of i32 elements}}
  %r = "tiny.softmax_cross_entropy"(%l, %label) : (tensor<1x3xf32>, tensor<i64>) -> tensor<f32>
  return
}

// -----

func.func @softmax_cross_entropy(%l: tensor<1x3xf32>, %label: tensor<1xi32>) {
  // expected-error@+1 {{expects label of shape []}}
  %r = "tiny.softmax_cross_entropy"(%l, %label) : (tensor<1x3xf32>, tensor<1xi32>) -> tensor<f32>
  return
}

// -----

!fine = tensor<1x1x1x1x!quant.uniform<i8:f32, 1.000000e+00:0>>
!coarse = tensor<1x1x1x1x!quant.uniform<i8:f32, 1.099511627776e+12:0>>
func.func @add(%a: !coarse, %b: !fine) {
  // expected-error@+1 {{has a requantization factor of 2^30 or more}}
  %r = "tiny.add"(%a, %b) {clamp = array<i64: -128, 127>, resultSegmentSizes = array<i32: 1, 0>} : (!coarse, !fine) -> !fine
  return
}

// -----

!x = tensor<1x1x1x1x!quant.uniform<i8:f32, 1.000000e-30:0>>
!y = tensor<1x1x1x1x!quant.uniform<i8:f32, 1.000000e+00:0>>
func.func @conv2d(%x: !x, %w: tensor<1x1x1x1xi8>, %b: tensor<1xi32>) {
  // expected-error@+1 {{has a requantization factor of zero}}
  %r = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<1.0e-300> : tensor<1xf64>} : (!x, tensor<1x1x1x1xi8>, tensor<1xi32>) -> !y
  return
}

// -----

func.func @softmax_cross_entropy(%l: tensor<1x3xf32>, %label: tensor<i32>) {
  // expected-error@+1 {{expects loss of shape []}}
  %r = "tiny.softmax_cross_entropy"(%l, %label) : (tensor<1x3xf32>, tensor<i32>) -> tensor<1xf32>
  return
}
