// RUN: %tiny-opt %s --split-input-file --verify-diagnostics

// What each backward op refuses, with the reason at its place.

func.func @softmax_cross_entropy_grad(%l: tensor<1x3xi8>, %label: tensor<i32>) {
  // expected-error@+1 {{expects logits of f32 elements}}
  %r = "tiny.softmax_cross_entropy_grad"(%l, %label) : (tensor<1x3xi8>, tensor<i32>) -> tensor<1x3xf32>
  return
}

// -----

func.func @softmax_cross_entropy_grad(%l: tensor<1x3xf32>, %label: tensor<f32>) {
  // expected-error@+1 {{expects label of i32 elements}}
  %r = "tiny.softmax_cross_entropy_grad"(%l, %label) : (tensor<1x3xf32>, tensor<f32>) -> tensor<1x3xf32>
  return
}

// -----

func.func @softmax_cross_entropy_grad(%l: tensor<1x3xf32>, %label: tensor<1xi32>) {
  // expected-error@+1 {{expects label of shape []}}
  %r = "tiny.softmax_cross_entropy_grad"(%l, %label) : (tensor<1x3xf32>, tensor<1xi32>) -> tensor<1x3xf32>
  return
}

// -----

func.func @softmax_cross_entropy_grad(%l: tensor<1x3xf32>, %label: tensor<i32>) {
  // expected-error@+1 {{expects gx of shape [1, 3]}}
  %r = "tiny.softmax_cross_entropy_grad"(%l, %label) : (tensor<1x3xf32>, tensor<i32>) -> tensor<1x4xf32>
  return
}

// -----

func.func @linear_input_grad(%g: tensor<1x3xf32>, %w: tensor<3x4xi8>) {
  // expected-error@+1 {{expects weights of f32 elements}}
  %r = "tiny.linear_input_grad"(%g, %w) : (tensor<1x3xf32>, tensor<3x4xi8>) -> tensor<1x1x1x4xf32>
  return
}

// -----

func.func @linear_input_grad(%g: tensor<1x3xf32>, %w: tensor<12xf32>) {
  // expected-error@+1 {{expects weights of rank 2}}
  %r = "tiny.linear_input_grad"(%g, %w) : (tensor<1x3xf32>, tensor<12xf32>) -> tensor<1x1x1x4xf32>
  return
}

// -----

func.func @linear_input_grad(%g: tensor<3xf32>, %w: tensor<3x4xf32>) {
  // expected-error@+1 {{expects g of shape [1, 3]}}
  %r = "tiny.linear_input_grad"(%g, %w) : (tensor<3xf32>, tensor<3x4xf32>) -> tensor<1x1x1x4xf32>
  return
}

// -----

func.func @linear_weight_grad(%x: tensor<1x1x1x4xi8>, %g: tensor<1x3xf32>) {
  // expected-error@+1 {{expects x of f32 elements}}
  %r = "tiny.linear_weight_grad"(%x, %g) : (tensor<1x1x1x4xi8>, tensor<1x3xf32>) -> tensor<3x4xf32>
  return
}

// -----

func.func @linear_weight_grad(%x: tensor<1x1x1x4xf32>, %g: tensor<1x3xf32>) {
  // expected-error@+1 {{expects gw of shape [3, 4]}}
  %r = "tiny.linear_weight_grad"(%x, %g) : (tensor<1x1x1x4xf32>, tensor<1x3xf32>) -> tensor<3x5xf32>
  return
}

// -----

func.func @scale_gradient(%g: tensor<1x2x3x4xi8>) {
  // expected-error@+1 {{expects g of f32 elements}}
  %r = "tiny.scale_gradient"(%g) {factor = 5.000000e-01 : f32, operandSegmentSizes = array<i32: 1, 0>} : (tensor<1x2x3x4xi8>) -> tensor<1x2x3x4xf32>
  return
}

// -----

func.func @scale_gradient(%g: tensor<1x2x3x4xf32>) {
  // expected-error@+1 {{expects gx of shape [1, 2, 3, 4]}}
  %r = "tiny.scale_gradient"(%g) {factor = 5.000000e-01 : f32, operandSegmentSizes = array<i32: 1, 0>} : (tensor<1x2x3x4xf32>) -> tensor<1x2x3x5xf32>
  return
}

// -----

func.func @scale_gradient(%g: tensor<1x2x3x4xf32>, %m: tensor<1x2x3x4xi8>) {
  // expected-error@+1 {{expects mask of i1 elements}}
  %r = "tiny.scale_gradient"(%g, %m) {factor = 5.000000e-01 : f32, operandSegmentSizes = array<i32: 1, 1>} : (tensor<1x2x3x4xf32>, tensor<1x2x3x4xi8>) -> tensor<1x2x3x4xf32>
  return
}

// -----

func.func @scale_gradient(%g: tensor<1x2x3x4xf32>, %m: tensor<1x2x3x5xi1>) {
  // expected-error@+1 {{expects mask of shape [1, 2, 3, 4]}}
  %r = "tiny.scale_gradient"(%g, %m) {factor = 5.000000e-01 : f32, operandSegmentSizes = array<i32: 1, 1>} : (tensor<1x2x3x4xf32>, tensor<1x2x3x5xi1>) -> tensor<1x2x3x4xf32>
  return
}

// -----

func.func @add_gradients(%a: tensor<2x3xi32>, %b: tensor<2x3xf32>) {
  // expected-error@+1 {{expects a of f32 elements}}
  %r = "tiny.add_gradients"(%a, %b) : (tensor<2x3xi32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  return
}

// -----

func.func @add_gradients(%a: tensor<2x3xf32>, %b: tensor<3x2xf32>) {
  // expected-error@+1 {{expects b of shape [2, 3]}}
  %r = "tiny.add_gradients"(%a, %b) : (tensor<2x3xf32>, tensor<3x2xf32>) -> tensor<2x3xf32>
  return
}

// -----

func.func @add_gradients(%a: tensor<2x3xf32>, %b: tensor<2x3xf32>) {
  // expected-error@+1 {{expects gx of shape [2, 3]}}
  %r = "tiny.add_gradients"(%a, %b) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x4xf32>
  return
}

// -----

func.func @global_average_pool_grad(%x: tensor<1x1x1x4xf32>) {
  // expected-error@+1 {{expects gx of rank 4}}
  %r = "tiny.global_average_pool_grad"(%x) : (tensor<1x1x1x4xf32>) -> tensor<2x4xf32>
  return
}

// -----

func.func @global_average_pool_grad(%x: tensor<1x1x1x4xi8>) {
  // expected-error@+1 {{expects g of f32 elements}}
  %r = "tiny.global_average_pool_grad"(%x) : (tensor<1x1x1x4xi8>) -> tensor<1x2x3x4xf32>
  return
}

// -----

func.func @global_average_pool_grad(%x: tensor<1x1x1x4xf32>) {
  // expected-error@+1 {{expects gx of f32 elements}}
  %r = "tiny.global_average_pool_grad"(%x) : (tensor<1x1x1x4xf32>) -> tensor<1x2x3x4xi8>
  return
}

// -----

func.func @global_average_pool_grad(%x: tensor<1x4xf32>) {
  // expected-error@+1 {{expects g of shape [1, 1, 1, 4]}}
  %r = "tiny.global_average_pool_grad"(%x) : (tensor<1x4xf32>) -> tensor<1x2x3x4xf32>
  return
}

// -----

func.func @conv2d_input_grad(%g: tensor<5x4x6xf32>, %w: tensor<6x3x1x2xi8>) {
  // expected-error@+1 {{expects g of rank 4}}
  %r = "tiny.conv2d_input_grad"(%g, %w) {groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>} : (tensor<5x4x6xf32>, tensor<6x3x1x2xi8>) -> tensor<1x5x4x4xf32>
  return
}

// -----

func.func @conv2d_input_grad(%g: tensor<1x5x4x6xf32>, %w: tensor<6x3x1x2xi8>) {
  // expected-error@+1 {{expects gx of f32 elements}}
  %r = "tiny.conv2d_input_grad"(%g, %w) {groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x6xf32>, tensor<6x3x1x2xi8>) -> tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>
  return
}

// -----

func.func @conv2d_input_grad(%g: tensor<1x5x4x6xf32>, %w: tensor<6x3x2xi8>) {
  // expected-error@+1 {{expects weights of rank 4}}
  %r = "tiny.conv2d_input_grad"(%g, %w) {groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x6xf32>, tensor<6x3x2xi8>) -> tensor<1x5x4x4xf32>
  return
}

// -----

func.func @conv2d_input_grad(%g: tensor<1x5x4x6xf32>, %w: tensor<6x3x1x2xi32>) {
  // expected-error@+1 {{expects weights of i8 or i16 or f32 elements}}
  %r = "tiny.conv2d_input_grad"(%g, %w) {groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x6xf32>, tensor<6x3x1x2xi32>) -> tensor<1x5x4x4xf32>
  return
}

// -----

func.func @conv2d_input_grad(%g: tensor<1x5x4x6xf32>, %w: tensor<6x3x1x2xi8>) {
  // expected-error@+1 {{expects weights of 6 / 2 input channels}}
  %r = "tiny.conv2d_input_grad"(%g, %w) {groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x6xf32>, tensor<6x3x1x2xi8>) -> tensor<1x5x4x6xf32>
  return
}

// -----

func.func @conv2d_input_grad(%g: tensor<1x5x5x6xf32>, %w: tensor<6x3x1x2xi8>) {
  // expected-error@+1 {{expects output shape [1, 5, 4, 6]}}
  %r = "tiny.conv2d_input_grad"(%g, %w) {groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x5x6xf32>, tensor<6x3x1x2xi8>) -> tensor<1x5x4x4xf32>
  return
}

// -----

func.func @conv2d_input_grad(%g: tensor<1x5x4x6xf32>, %w: tensor<6x3x1x2xi8>) {
  // expected-error@+1 {{expects scales as dense tensor<6xf32>}}
  %r = "tiny.conv2d_input_grad"(%g, %w) {groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, scales = dense<1.0> : tensor<6xf64>, strides = array<i64: 1, 1>} : (tensor<1x5x4x6xf32>, tensor<6x3x1x2xi8>) -> tensor<1x5x4x4xf32>
  return
}

// -----

func.func @conv2d_input_grad(%g: tensor<1x5x4x6xf32>, %w: tensor<6x3x1x2xi8>) {
  // expected-error@+1 {{has trained_channels but no trained weights}}
  %r = "tiny.conv2d_input_grad"(%g, %w) {groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>, trained_channels = array<i64: 0>} : (tensor<1x5x4x6xf32>, tensor<6x3x1x2xi8>) -> tensor<1x5x4x4xf32>
  return
}

// -----

func.func @conv2d_input_grad(%g: tensor<1x5x4x6xf32>, %w: tensor<6x3x1x2xi8>) {
  // expected-error@+1 {{expects four pads of at least 0}}
  %r = "tiny.conv2d_input_grad"(%g, %w) {groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 0>, pads = array<i64: 1>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x6xf32>, tensor<6x3x1x2xi8>) -> tensor<1x5x4x4xf32>
  return
}

// -----

func.func @conv2d_weight_grad(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %g: tensor<1x5x4x6xf32>) {
  // expected-error@+1 {{expects gw of rank 4}}
  %r = "tiny.conv2d_weight_grad"(%x, %g) {groups = 2 : i64, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x6xf32>) -> tensor<6x3x2xf32>
  return
}

// -----

func.func @conv2d_weight_grad(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %g: tensor<1x5x4x6xf32>) {
  // expected-error@+1 {{expects gw of f32 elements}}
  %r = "tiny.conv2d_weight_grad"(%x, %g) {groups = 2 : i64, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x6xf32>) -> tensor<6x3x1x2xi8>
  return
}

// -----

func.func @conv2d_weight_grad(%x: tensor<1x5x4x4xf32>, %g: tensor<1x5x4x6xf32>) {
  // expected-error@+1 {{expects x of quant elements}}
  %r = "tiny.conv2d_weight_grad"(%x, %g) {groups = 2 : i64, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x4xf32>, tensor<1x5x4x6xf32>) -> tensor<6x3x1x2xf32>
  return
}

// -----

func.func @conv2d_weight_grad(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %g: tensor<1x5x4x6xi8>) {
  // expected-error@+1 {{expects g of f32 elements}}
  %r = "tiny.conv2d_weight_grad"(%x, %g) {groups = 2 : i64, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x6xi8>) -> tensor<6x3x1x2xf32>
  return
}

// -----

func.func @conv2d_weight_grad(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %g: tensor<1x5x4x5xf32>) {
  // expected-error@+1 {{expects a gradient of 6 channels}}
  %r = "tiny.conv2d_weight_grad"(%x, %g) {groups = 2 : i64, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x5xf32>) -> tensor<6x3x1x2xf32>
  return
}

// -----

func.func @conv2d_weight_grad(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %g: tensor<1x5x4x6xf32>) {
  // expected-error@+1 {{does not fit 2 groups}}
  %r = "tiny.conv2d_weight_grad"(%x, %g) {groups = 2 : i64, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x6xf32>) -> tensor<6x3x1x4xf32>
  return
}

// -----

func.func @conv2d_weight_grad(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %g: tensor<1x5x5x6xf32>) {
  // expected-error@+1 {{expects a gradient of spatial shape (5, 4)}}
  %r = "tiny.conv2d_weight_grad"(%x, %g) {groups = 2 : i64, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<6xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x5x6xf32>) -> tensor<6x3x1x2xf32>
  return
}

// -----

func.func @conv2d_weight_grad(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %g: tensor<1x5x4x6xf32>) {
  // expected-error@+1 {{expects scales as dense tensor<6xf32>}}
  %r = "tiny.conv2d_weight_grad"(%x, %g) {groups = 2 : i64, pads = array<i64: 1, 0, 1, 0>, scales = dense<1.0> : tensor<5xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x6xf32>) -> tensor<6x3x1x2xf32>
  return
}

// -----

func.func @conv2d_weight_grad(%x: tensor<1x5x4x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %g: tensor<1x5x4x4xf32>) {
  // expected-error@+1 {{expects 2 output_channels, got 1}}
  %r = "tiny.conv2d_weight_grad"(%x, %g) {groups = 2 : i64, output_channels = array<i64: 1>, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<2xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x4xf32>) -> tensor<2x3x1x1xf32>
  return
}

// -----

func.func @conv2d_weight_grad(%x: tensor<1x5x4x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %g: tensor<1x5x4x4xf32>) {
  // expected-error@+1 {{expects output_channels below 4}}
  %r = "tiny.conv2d_weight_grad"(%x, %g) {groups = 2 : i64, output_channels = array<i64: 1, 4>, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<2xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x4xf32>) -> tensor<2x3x1x1xf32>
  return
}

// -----

func.func @conv2d_weight_grad(%x: tensor<1x5x4x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %g: tensor<1x5x4x4xf32>) {
  // expected-error@+1 {{allows output_channels only for depthwise weights}}
  %r = "tiny.conv2d_weight_grad"(%x, %g) {groups = 2 : i64, output_channels = array<i64: 1, 3>, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<2xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x4xf32>) -> tensor<2x3x1x2xf32>
  return
}

// -----

func.func @conv2d_weight_grad(%x: tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %g: tensor<1x5x4x4xf32>) {
  // expected-error@+1 {{expects 2 gathered input channels}}
  %r = "tiny.conv2d_weight_grad"(%x, %g) {groups = 2 : i64, output_channels = array<i64: 1, 3>, pads = array<i64: 1, 0, 1, 0>, scales = dense<2.500000e-01> : tensor<2xf32>, strides = array<i64: 1, 1>} : (tensor<1x5x4x4x!quant.uniform<i8:f32, 5.000000e-01:-3>>, tensor<1x5x4x4xf32>) -> tensor<2x3x1x1xf32>
  return
}

// -----

func.func @bias_grad(%g: tensor<1x5x4x6xi8>) {
  // expected-error@+1 {{expects g of f32 elements}}
  %r = "tiny.bias_grad"(%g) {scales = dense<2.500000e-01> : tensor<6xf32>} : (tensor<1x5x4x6xi8>) -> tensor<6xf32>
  return
}

// -----

func.func @bias_grad(%g: tensor<1x5x4x6xf32>) {
  // expected-error@+1 {{expects gb of f32 elements}}
  %r = "tiny.bias_grad"(%g) {scales = dense<2.500000e-01> : tensor<6xf32>} : (tensor<1x5x4x6xf32>) -> tensor<6xi32>
  return
}

// -----

func.func @bias_grad(%g: tensor<1x5x4x6xf32>) {
  // expected-error@+1 {{expects gb of shape [6]}}
  %r = "tiny.bias_grad"(%g) {scales = dense<2.500000e-01> : tensor<6xf32>} : (tensor<1x5x4x6xf32>) -> tensor<5xf32>
  return
}

// -----

func.func @bias_grad(%g: tensor<1x5x4x6xf32>) {
  // expected-error@+1 {{expects scales as dense tensor<6xf32>}}
  %r = "tiny.bias_grad"(%g) {scales = dense<1.0> : tensor<5xf32>} : (tensor<1x5x4x6xf32>) -> tensor<6xf32>
  return
}
