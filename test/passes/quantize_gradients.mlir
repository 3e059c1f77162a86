// RUN: %tiny-opt %s -p tiny-quantize-gradients --split-input-file | FileCheck %s
// RUN: %tiny-opt %s -p 'tiny-quantize-gradients{bits=8}' --split-input-file | FileCheck %s --check-prefix NARROW

// The head becomes i32, the backward pass mantissas and headers. The scale of the features (0.5) and
// the 1 / (2 * 2) of the pool wait for the next normalized gradient, that of `b`: its multipliers
// hold 0.25 * 0.5 * scales; its updates divide by the scales. The gradient of `a` has no reader but
// updates: one multiplier for all channels. The
// largest column of `b` is 3 + 4, so its sums have 3 bits more than an i16.

!x = tensor<1x2x2x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!pixel = tensor<1x1x1x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!g = tensor<1x2x2x2xf32>
!mask = tensor<1x2x2x2xi1>
func.func @train_step(%x: !x, %label: tensor<i32>, %rate: tensor<f32>) -> (tensor<f32>, tensor<1x3xf32>) {
  %aw = "tiny.parameter"() {symbol = "a.w", trained, value = dense<256> : tensor<2x1x1x2xi16>} : () -> tensor<2x1x1x2xi16>
  %ab = "tiny.parameter"() {symbol = "a.b", value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %ya, %ma = "tiny.conv2d"(%x, %aw, %ab) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "a", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<2xf64>} : (!x, tensor<2x1x1x2xi16>, tensor<2xi32>) -> (!x, !mask)
  %bw = "tiny.parameter"() {symbol = "b.w", value = dense<[[[[3, -2]]], [[[4, 1]]]]> : tensor<2x1x1x2xi8>} : () -> tensor<2x1x1x2xi8>
  %bb = "tiny.parameter"() {symbol = "b.b", trained, value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %yb, %mb = "tiny.conv2d"(%ya, %bw, %bb) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "b", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>, weight_scales = dense<[0.5, 0.25]> : tensor<2xf64>} : (!x, tensor<2x1x1x2xi8>, tensor<2xi32>) -> (!x, !mask)
  %p = "tiny.global_average_pool"(%yb) {layer = "pool"} : (!x) -> !pixel
  %f = "tiny.dequantize"(%p) {layer = "head"} : (!pixel) -> tensor<1x1x1x2xf32>
  %hw = "tiny.parameter"() {symbol = "h.w", trained, value = dense<0.5> : tensor<3x2xf32>} : () -> tensor<3x2xf32>
  %hb = "tiny.parameter"() {symbol = "h.b", trained, value = dense<-0.25> : tensor<3xf32>} : () -> tensor<3xf32>
  %logits = "tiny.linear"(%f, %hw, %hb) {layer = "head"} : (tensor<1x1x1x2xf32>, tensor<3x2xf32>, tensor<3xf32>) -> tensor<1x3xf32>
  %loss = "tiny.softmax_cross_entropy"(%logits, %label) {layer = "head"} : (tensor<1x3xf32>, tensor<i32>) -> tensor<f32>
  %gl = "tiny.softmax_cross_entropy_grad"(%logits, %label) {layer = "head"} : (tensor<1x3xf32>, tensor<i32>) -> tensor<1x3xf32>
  %gf = "tiny.linear_input_grad"(%gl, %hw) {layer = "head"} : (tensor<1x3xf32>, tensor<3x2xf32>) -> tensor<1x1x1x2xf32>
  "tiny.bias_update"(%hb, %gl, %rate) {factors = dense<1.0> : tensor<3xf32>, layer = "head"} : (tensor<3xf32>, tensor<1x3xf32>, tensor<f32>) -> ()
  "tiny.linear_weight_update"(%hw, %f, %gl, %rate) {factors = dense<1.0> : tensor<3xf32>, layer = "head"} : (tensor<3x2xf32>, tensor<1x1x1x2xf32>, tensor<1x3xf32>, tensor<f32>) -> ()
  %gp = "tiny.scale_gradient"(%gf) {factor = 0.5 : f32, layer = "head", operandSegmentSizes = array<i32: 1, 0>} : (tensor<1x1x1x2xf32>) -> tensor<1x1x1x2xf32>
  %gy = "tiny.global_average_pool_grad"(%gp) {layer = "pool"} : (tensor<1x1x1x2xf32>) -> !g
  %gb = "tiny.scale_gradient"(%gy, %mb) {factor = 1.0 : f32, layer = "b", operandSegmentSizes = array<i32: 1, 1>} : (!g, !mask) -> !g
  "tiny.bias_update"(%bb, %gb, %rate) {factors = dense<[2.0, 1.0]> : tensor<2xf32>, layer = "b"} : (tensor<2xi32>, !g, tensor<f32>) -> ()
  %gx = "tiny.conv2d_input_grad"(%gb, %bw) {groups = 1 : i64, layer = "b", operandSegmentSizes = array<i32: 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, scales = dense<[0.5, 0.25]> : tensor<2xf32>, strides = array<i64: 1, 1>} : (!g, tensor<2x1x1x2xi8>) -> !g
  %ga = "tiny.scale_gradient"(%gx, %ma) {factor = 1.0 : f32, layer = "a", operandSegmentSizes = array<i32: 1, 1>} : (!g, !mask) -> !g
  "tiny.conv2d_weight_update"(%aw, %x, %ga, %rate) {factors = dense<[3.0, 0.0]> : tensor<2xf32>, groups = 1 : i64, layer = "a", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<2x1x1x2xi16>, !x, !g, tensor<f32>) -> ()
  return %loss, %logits : tensor<f32>, tensor<1x3xf32>
}

// CHECK-LABEL: func.func @train_step(
// CHECK-SAME:    %[[X:.*]]: tensor<1x2x2x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>, %[[LABEL:.*]]: tensor<i32>, %[[RATE:.*]]: tensor<f32>)
// CHECK-NEXT:    %[[AW:.*]] = "tiny.parameter"() {symbol = "a.w"
// CHECK-NEXT:    "tiny.parameter"() {symbol = "a.b"
// CHECK-NEXT:    %[[YA:.*]]:2 = "tiny.conv2d"
// CHECK-NEXT:    %[[BW:.*]] = "tiny.parameter"() {symbol = "b.w"
// CHECK-NEXT:    %[[BB:.*]] = "tiny.parameter"() {symbol = "b.b"
// CHECK-NEXT:    %[[YB:.*]]:2 = "tiny.conv2d"
// CHECK-NEXT:    %[[P:.*]] = "tiny.global_average_pool"
// CHECK-NEXT:    %[[HW:.*]] = "tiny.parameter"() {symbol = "h.w", trained, value = dense<8388608> : tensor<3x2xi32>}
// CHECK-NEXT:    %[[HB:.*]] = "tiny.parameter"() {symbol = "h.b", trained, value = dense<-4194304> : tensor<3xi32>}
// CHECK-NEXT:    %[[Y:.*]] = "tiny.integer_linear"(%[[P]], %[[HW]], %[[HB]]) {fraction = 24 : i64, layer = "head"}
// CHECK-NEXT:    %[[LOGITS:.*]] = "tiny.fixed_to_float"(%[[Y]]) {layer = "head"}
// CHECK-NEXT:    %[[L:.*]] = "tiny.integer_softmax_cross_entropy"(%[[Y]], %[[LABEL]]) {layer = "head"}
// CHECK-NEXT:    %[[LOSS:.*]] = "tiny.fixed_to_float"(%[[L]]) {layer = "head"}
// CHECK-NEXT:    %[[GL:.*]]:2 = "tiny.integer_softmax_cross_entropy_grad"(%[[Y]], %[[LABEL]]) {layer = "head"}
// CHECK-NEXT:    %[[GF:.*]]:2 = "tiny.integer_linear_input_grad"(%[[GL]]#0, %[[GL]]#1, %[[HW]]) {fraction = 24 : i64, layer = "head"}
// CHECK-NEXT:    "tiny.integer_bias_update"(%[[HB]], %[[GL]]#0, %[[GL]]#1, %[[RATE]]) {align = 16 : i64, factors = dense<0x4B800000> : tensor<3xf32>, layer = "head"}
// CHECK-NEXT:    "tiny.integer_linear_weight_update"(%[[HW]], %[[P]], %[[GL]]#0, %[[GL]]#1, %[[RATE]]) {factors = dense<0x4B000000> : tensor<3xf32>, layer = "head"}
// CHECK-NEXT:    %[[GB:.*]]:2 = "tiny.normalize_gradient"(%[[GF]]#0, %[[GF]]#1, %[[YB]]#1) {bits = 16 : i64, layer = "b", multipliers = dense<[16384, 8192]> : tensor<2xi16>, {{.*}}, overshoot = 0 : i64, scale = -18 : i64}
// CHECK-NEXT:    "tiny.integer_bias_update"(%[[BB]], %[[GB]]#0, %[[GB]]#1, %[[RATE]]) {align = 14 : i64, factors = dense<4.000000e+00> : tensor<2xf32>, layer = "b"}
// CHECK-NEXT:    %[[GX:.*]]:2 = "tiny.integer_conv2d_input_grad"(%[[GB]]#0, %[[GB]]#1, %[[BW]]) {{.*}}layer = "b", {{.*}}shift = 3 : i64
// CHECK-NEXT:    %[[GA:.*]]:2 = "tiny.normalize_gradient"(%[[GX]]#0, %[[GX]]#1, %[[YA]]#1) {bits = 16 : i64, layer = "a", multipliers = dense<16384> : tensor<1xi16>, {{.*}}, scale = -14 : i64}
// CHECK-NEXT:    "tiny.integer_conv2d_weight_update"(%[[AW]], %[[X]], %[[GA]]#0, %[[GA]]#1, %[[RATE]]) {align = 0 : i64, factors = dense<[7.680000e+02, 0.000000e+00]> : tensor<2xf32>
// CHECK-NEXT:    return %[[LOSS]], %[[LOGITS]]

// NARROW-LABEL: func.func @train_step(
// NARROW:         "tiny.integer_linear_input_grad"{{.*}} -> (tensor<1x1x1x2xi16>, tensor<2xi32>)
// NARROW:         "tiny.normalize_gradient"({{.*}}) {bits = 8 : i64, {{.*}}overshoot = 1 : i64, {{.*}} -> (tensor<1x2x2x2xi8>, tensor<2xi32>)
// NARROW-NEXT:    "tiny.integer_bias_update"({{.*}}) {align = 22 : i64
// NARROW-NEXT:    "tiny.integer_conv2d_input_grad"({{.*}}shift = 0 : i64, {{.*}} -> (tensor<1x2x2x2xi16>, tensor<2xi32>)

// -----

// A residual: both gradients of the addition are masked and scaled, that of the trunk by one
// multiplier before the sum at the fan-out, that of the branch once more by the mask and the scales
// of its convolution. Sums over 64 * 64 pixels leave 12 bits to `b`, whose weight is trained.

!x = tensor<1x64x64x1x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!g = tensor<1x64x64x1xf32>
!mask = tensor<1x64x64x1xi1>
func.func @train_step(%x: !x, %label: tensor<i32>, %rate: tensor<f32>) -> (tensor<f32>, tensor<1x1x1x1xf32>) {
  %ab = "tiny.parameter"() {symbol = "a.b", trained, value = dense<1> : tensor<1xi32>} : () -> tensor<1xi32>
  %aw = "tiny.parameter"() {symbol = "a.w", value = dense<1> : tensor<1x1x1x1xi8>} : () -> tensor<1x1x1x1xi8>
  %bb = "tiny.parameter"() {symbol = "b.b", value = dense<1> : tensor<1xi32>} : () -> tensor<1xi32>
  %bw = "tiny.parameter"() {symbol = "b.w", trained, value = dense<1> : tensor<1x1x1x1xi16>} : () -> tensor<1x1x1x1xi16>
  %ya, %ma = "tiny.conv2d"(%x, %aw, %ab) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "a", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<1xf64>} : (!x, tensor<1x1x1x1xi8>, tensor<1xi32>) -> (!x, !mask)
  %yb, %mb = "tiny.conv2d"(%ya, %bw, %bb) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "b", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<1xf64>} : (!x, tensor<1x1x1x1xi16>, tensor<1xi32>) -> (!x, !mask)
  %s, %ms = "tiny.add"(%ya, %yb) {clamp = array<i64: -128, 127>, layer = "add", resultSegmentSizes = array<i32: 1, 1>} : (!x, !x) -> (!x, !mask)
  %p = "tiny.global_average_pool"(%s) {layer = "pool"} : (!x) -> tensor<1x1x1x1x!quant.uniform<i8:f32, 5.000000e-01:-3>>
  %logits = "tiny.dequantize"(%p) {layer = "pool"} : (tensor<1x1x1x1x!quant.uniform<i8:f32, 5.000000e-01:-3>>) -> tensor<1x1x1x1xf32>
  %loss = "tiny.softmax_cross_entropy"(%logits, %label) {layer = "pool"} : (tensor<1x1x1x1xf32>, tensor<i32>) -> tensor<f32>
  %gl = "tiny.softmax_cross_entropy_grad"(%logits, %label) {layer = "pool"} : (tensor<1x1x1x1xf32>, tensor<i32>) -> tensor<1x1x1x1xf32>
  %gp = "tiny.scale_gradient"(%gl) {factor = 0.5 : f32, layer = "pool", operandSegmentSizes = array<i32: 1, 0>} : (tensor<1x1x1x1xf32>) -> tensor<1x1x1x1xf32>
  %gy = "tiny.global_average_pool_grad"(%gp) {layer = "pool"} : (tensor<1x1x1x1xf32>) -> !g
  %trunk = "tiny.scale_gradient"(%gy, %ms) {factor = 0.75 : f32, layer = "add", operandSegmentSizes = array<i32: 1, 1>} : (!g, !mask) -> !g
  %branch = "tiny.scale_gradient"(%gy, %ms) {factor = 1.0 : f32, layer = "add", operandSegmentSizes = array<i32: 1, 1>} : (!g, !mask) -> !g
  %gb = "tiny.scale_gradient"(%branch, %mb) {factor = 1.0 : f32, layer = "b", operandSegmentSizes = array<i32: 1, 1>} : (!g, !mask) -> !g
  %gx = "tiny.conv2d_input_grad"(%gb, %bw) {groups = 1 : i64, layer = "b", operandSegmentSizes = array<i32: 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, scales = dense<0.5> : tensor<1xf32>, strides = array<i64: 1, 1>} : (!g, tensor<1x1x1x1xi16>) -> !g
  "tiny.conv2d_weight_update"(%bw, %ya, %gb, %rate) {factors = dense<1.0> : tensor<1xf32>, groups = 1 : i64, layer = "b", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x1x1x1xi16>, !x, !g, tensor<f32>) -> ()
  %sum = "tiny.add_gradients"(%trunk, %gx) {layer = "a"} : (!g, !g) -> !g
  %ga = "tiny.scale_gradient"(%sum, %ma) {factor = 1.0 : f32, layer = "a", operandSegmentSizes = array<i32: 1, 1>} : (!g, !mask) -> !g
  "tiny.bias_update"(%ab, %ga, %rate) {factors = dense<1.0> : tensor<1xf32>, layer = "a"} : (tensor<1xi32>, !g, tensor<f32>) -> ()
  return %loss, %logits : tensor<f32>, tensor<1x1x1x1xf32>
}

// CHECK-LABEL: func.func @train_step(
// CHECK:         %[[YA:.*]]:2 = "tiny.conv2d"
// CHECK:         %[[YB:.*]]:2 = "tiny.conv2d"
// CHECK:         %[[S:.*]]:2 = "tiny.add"
// CHECK-NEXT:    %[[P:.*]] = "tiny.global_average_pool"
// CHECK-NEXT:    %[[LOGITS:.*]] = "tiny.dequantize"(%[[P]])
// CHECK-NEXT:    %[[FIXED:.*]] = "tiny.dequantize_fixed"(%[[P]]) {layer = "pool"}
// CHECK-NEXT:    "tiny.integer_softmax_cross_entropy"(%[[FIXED]]
// CHECK-NEXT:    "tiny.fixed_to_float"
// CHECK-NEXT:    %[[GL:.*]]:2 = "tiny.integer_softmax_cross_entropy_grad"(%[[FIXED]]
// CHECK-NEXT:    %[[BRANCH:.*]]:2 = "tiny.normalize_gradient"(%[[GL]]#0, %[[GL]]#1, %[[S]]#1) {bits = 16 : i64, layer = "add", multipliers = dense<16384> : tensor<1xi16>, {{.*}}scale = -27 : i64}
// CHECK-NEXT:    %[[GB:.*]]:2 = "tiny.normalize_gradient"(%[[BRANCH]]#0, %[[BRANCH]]#1, %[[YB]]#1) {bits = 12 : i64, layer = "b", multipliers = dense<16384> : tensor<1xi16>, {{.*}}scale = -15 : i64}
// CHECK-NEXT:    %[[GX:.*]]:2 = "tiny.integer_conv2d_input_grad"(%[[GB]]#0, %[[GB]]#1
// CHECK-NEXT:    "tiny.integer_conv2d_weight_update"
// CHECK-NEXT:    %[[TRUNK:.*]]:2 = "tiny.normalize_gradient"(%[[GL]]#0, %[[GL]]#1, %[[S]]#1) {bits = 16 : i64, layer = "add", multipliers = dense<24576> : tensor<1xi16>, {{.*}}scale = -28 : i64}
// CHECK-NEXT:    %[[SUM:.*]]:2 = "tiny.integer_add_gradients"(%[[TRUNK]]#0, %[[TRUNK]]#1, %[[GX]]#0, %[[GX]]#1) {layer = "a"}
// CHECK-NEXT:    %[[GA:.*]]:2 = "tiny.normalize_gradient"(%[[SUM]]#0, %[[SUM]]#1, %[[YA]]#1) {bits = 16
// CHECK-NEXT:    "tiny.integer_bias_update"(%{{.*}}, %[[GA]]#0, %[[GA]]#1, %{{.*}}) {align = 4 : i64

// -----

// Weights of one byte: sums are shifted left as far as 32 bits allow, steps count in 2^-16.

!x = tensor<1x2x2x2x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!g = tensor<1x2x2x2xf32>
!mask = tensor<1x2x2x2xi1>
func.func @train_step(%x: !x, %mask: !mask, %q: tensor<1x1x1x2x!quant.uniform<i8:f32, 0.5>>, %label: tensor<i32>, %rate: tensor<f32>) {
  %n = "tiny.parameter"() {symbol = "n", trained, value = dense<0> : tensor<1xi32>} : () -> tensor<1xi32>
  %v = "tiny.parameter"() {symbol = "v", trained, value = dense<1> : tensor<2x1x1x2xi8>} : () -> tensor<2x1x1x2xi8>
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<1> : tensor<2x1x1x2xi8>} : () -> tensor<2x1x1x2xi8>
  %logits = "tiny.dequantize"(%q) : (tensor<1x1x1x2x!quant.uniform<i8:f32, 0.5>>) -> tensor<1x1x1x2xf32>
  %gl = "tiny.softmax_cross_entropy_grad"(%logits, %label) : (tensor<1x1x1x2xf32>, tensor<i32>) -> tensor<1x1x1x2xf32>
  %gy = "tiny.global_average_pool_grad"(%gl) : (tensor<1x1x1x2xf32>) -> !g
  %g = "tiny.scale_gradient"(%gy, %mask) {factor = 1.0 : f32, operandSegmentSizes = array<i32: 1, 1>} : (!g, !mask) -> !g
  "tiny.stochastic_conv2d_weight_update"(%v, %x, %g, %rate, %n) {factors = dense<[1.0, 0.0]> : tensor<2xf32>, groups = 1 : i64, layer = "a", pads = array<i64: 0, 0, 0, 0>, stream = 77 : i64, strides = array<i64: 1, 1>} : (tensor<2x1x1x2xi8>, !x, !g, tensor<f32>, tensor<1xi32>) -> ()
  "tiny.conv2d_weight_update"(%w, %x, %g, %rate) {factors = dense<1.0> : tensor<2xf32>, groups = 1 : i64, layer = "a", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<2x1x1x2xi8>, !x, !g, tensor<f32>) -> ()
  "tiny.advance_counter"(%n) : (tensor<1xi32>) -> ()
  return
}

// CHECK-LABEL: func.func @train_step(
// CHECK:         %[[N:.*]] = "tiny.parameter"() {symbol = "n"
// CHECK:         %[[G:.*]]:2 = "tiny.normalize_gradient"({{.*}}) {bits = 16
// CHECK-NEXT:    "tiny.integer_stochastic_conv2d_weight_update"(%{{.*}}, %{{.*}}, %[[G]]#0, %[[G]]#1, %{{.*}}, %[[N]]) {align = 6 : i64, factors = dense<[6.553600e+04, 0.000000e+00]> : tensor<2xf32>, {{.*}}stream = 77 : i64
// CHECK-NEXT:    "tiny.integer_conv2d_weight_update"({{.*}}) {align = 6 : i64, factors = dense<6.553600e+04> : tensor<2xf32>
// CHECK-NEXT:    "tiny.advance_counter"(%[[N]])

// NARROW:         "tiny.integer_stochastic_conv2d_weight_update"({{.*}}) {align = 14 : i64

// -----

// Sums over samples stay float32; the head is fixed point in both functions, with fewer bits, and
// its step counts in their units.

!f = tensor<1x1x1x2x!quant.uniform<i8:f32, 0.5>>
module {
func.func @train_step(%q: !f, %label: tensor<i32>, %weight: tensor<f32>) {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<0.5> : tensor<3x2xf32>} : () -> tensor<3x2xf32>
  %b = "tiny.parameter"() {symbol = "b", trained, value = dense<0.0> : tensor<3xf32>} : () -> tensor<3xf32>
  %ws = "tiny.parameter"() {symbol = "w.gradient", trained, value = dense<0.0> : tensor<3x2xf32>} : () -> tensor<3x2xf32>
  %bs = "tiny.parameter"() {symbol = "b.gradient", trained, value = dense<0.0> : tensor<3xf32>} : () -> tensor<3xf32>
  %x = "tiny.dequantize"(%q) : (!f) -> tensor<1x1x1x2xf32>
  %logits = "tiny.linear"(%x, %w, %b) {layer = "head"} : (tensor<1x1x1x2xf32>, tensor<3x2xf32>, tensor<3xf32>) -> tensor<1x3xf32>
  %g = "tiny.softmax_cross_entropy_grad"(%logits, %label) {layer = "head"} : (tensor<1x3xf32>, tensor<i32>) -> tensor<1x3xf32>
  "tiny.bias_update"(%bs, %g, %weight) {factors = dense<-1.0> : tensor<3xf32>, layer = "head"} : (tensor<3xf32>, tensor<1x3xf32>, tensor<f32>) -> ()
  "tiny.linear_weight_update"(%ws, %x, %g, %weight) {factors = dense<-1.0> : tensor<3xf32>, layer = "head"} : (tensor<3x2xf32>, tensor<1x1x1x2xf32>, tensor<1x3xf32>, tensor<f32>) -> ()
  return
}
func.func @apply_updates(%rate: tensor<f32>) {
  %w = "tiny.parameter"() {symbol = "w", trained, value = dense<0.5> : tensor<3x2xf32>} : () -> tensor<3x2xf32>
  %ws = "tiny.parameter"() {symbol = "w.gradient", trained, value = dense<0.0> : tensor<3x2xf32>} : () -> tensor<3x2xf32>
  "tiny.apply_update"(%w, %ws, %rate) {factors = dense<1.0> : tensor<3xf32>, layer = "head"} : (tensor<3x2xf32>, tensor<3x2xf32>, tensor<f32>) -> ()
  "tiny.clear"(%ws) : (tensor<3x2xf32>) -> ()
  return
}
}

// CHECK-LABEL: func.func @train_step(
// CHECK:         {symbol = "w", trained, value = dense<131072> : tensor<3x2xi32>}
// CHECK:         "tiny.integer_bias_update"({{.*}}) {align = 0 : i64, factors = dense<-1.000000e+00> : tensor<3xf32>, layer = "head"} : (tensor<3xf32>
// CHECK-NEXT:    "tiny.integer_linear_weight_update"({{.*}}) {factors = dense<-5.000000e-01> : tensor<3xf32>, layer = "head"} : (tensor<3x2xf32>
// CHECK-LABEL: func.func @apply_updates(
// CHECK-NEXT:    {symbol = "w", trained, value = dense<131072> : tensor<3x2xi32>}
// CHECK-NEXT:    {symbol = "w.gradient", trained, value = dense<0.000000e+00> : tensor<3x2xf32>}
// CHECK-NEXT:    "tiny.apply_update"({{.*}}) {factors = dense<2.621440e+05> : tensor<3xf32>, layer = "head"} : (tensor<3x2xi32>, tensor<3x2xf32>, tensor<f32>)
// CHECK-NEXT:    "tiny.clear"
