// RUN: %tiny-opt %s -p tiny-fuse-blocks --split-input-file | FileCheck %s
// RUN: %tiny-opt %s -p 'tiny-fuse-blocks{all=true}' --split-input-file | FileCheck %s --check-prefix=ALL

// An inverted bottleneck: the expanded tensors make the peak, so its convolutions become one op with
// rings of three rows and of one row. The mask that outlives them is a result. The addition works in
// place and saves nothing inside; where everything is to be fused it ends the block.

!q = !quant.uniform<i8:f32, 5.000000e-01:-3>
!x = tensor<1x8x4x4x!q>
!h = tensor<1x8x4x32x!q>
!m = tensor<1x8x4x32xi1>
func.func @train_step(%x: !x) -> (!x, !m) {
  %w0 = "tiny.parameter"() {symbol = "w0", value = dense<1> : tensor<32x1x1x4xi8>} : () -> tensor<32x1x1x4xi8>
  %b0 = "tiny.parameter"() {symbol = "b0", value = dense<1> : tensor<32xi32>} : () -> tensor<32xi32>
  %w1 = "tiny.parameter"() {symbol = "w1", value = dense<1> : tensor<32x3x3x1xi8>} : () -> tensor<32x3x3x1xi8>
  %w2 = "tiny.parameter"() {symbol = "w2", value = dense<1> : tensor<4x1x1x32xi8>} : () -> tensor<4x1x1x32xi8>
  %b2 = "tiny.parameter"() {symbol = "b2", value = dense<1> : tensor<4xi32>} : () -> tensor<4xi32>
  %e, %mask = "tiny.conv2d"(%x, %w0, %b0) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "block.expand", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 1>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<32xf64>} : (!x, tensor<32x1x1x4xi8>, tensor<32xi32>) -> (!h, !m)
  %d = "tiny.conv2d"(%e, %w1, %b0) {clamp = array<i64: -128, 127>, groups = 32 : i64, layer = "block.depthwise", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 1, 1, 1>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<32xf64>} : (!h, tensor<32x3x3x1xi8>, tensor<32xi32>) -> !h
  %p = "tiny.conv2d"(%d, %w2, %b2) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "block.project", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<4xf64>} : (!h, tensor<4x1x1x32xi8>, tensor<4xi32>) -> !x
  %y = "tiny.add"(%p, %x) {clamp = array<i64: -128, 127>, layer = "block.add", resultSegmentSizes = array<i32: 1, 0>} : (!x, !x) -> !x
  return %y, %mask : !x, !m
}

// CHECK-LABEL: func.func @train_step(
// CHECK-SAME:    %[[X:.*]]: tensor<1x8x4x4x
// CHECK:         %[[Y:.*]]:2 = "tiny.fused_block"(%[[X]], %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}) ({
// CHECK-NEXT:    ^bb0(%[[XI:.*]]: tensor<1x8x4x4x{{.*}}
// CHECK-NEXT:      %[[E:.*]]:2 = "tiny.conv2d"(%[[XI]], {{.*}}layer = "block.expand"
// CHECK-NEXT:      %[[D:.*]] = "tiny.conv2d"(%[[E]]#0, {{.*}}layer = "block.depthwise"
// CHECK-NEXT:      %[[P:.*]] = "tiny.conv2d"(%[[D]], {{.*}}layer = "block.project"
// CHECK-NEXT:      "tiny.yield"(%[[P]], %[[E]]#1)
// CHECK-NEXT:    }) {layer = "block", {{.*}}tiny.scratch_bytes = 512 : i64}
// CHECK-NEXT:    %[[S:.*]] = "tiny.add"(%[[Y]]#0, %[[X]])
// CHECK-NEXT:    return %[[S]], %[[Y]]#1

// ALL-LABEL:   func.func @train_step(
// ALL:           %[[Y:.*]]:2 = "tiny.fused_block"
// ALL-NEXT:      ^bb0(%[[XI:.*]]: tensor<1x8x4x4x{{.*}}
// ALL:             %[[P:.*]] = "tiny.conv2d"({{.*}}layer = "block.project"
// ALL-NEXT:        %[[S:.*]] = "tiny.add"(%[[P]], %[[XI]])
// ALL-NEXT:        "tiny.yield"(%[[S]], %{{.*}}#1)
// ALL:           return %[[Y]]#0, %[[Y]]#1

// -----

// Left alone: a hidden tensor that is small beside what stays, and one that another op reads whole.

!q = !quant.uniform<i8:f32, 5.000000e-01:-3>
!x = tensor<1x8x4x16x!q>
!h = tensor<1x8x4x2x!q>
func.func @infer(%x: !x) -> (!x, !x, !x) {
  %w0 = "tiny.parameter"() {symbol = "w0", value = dense<1> : tensor<2x1x1x16xi8>} : () -> tensor<2x1x1x16xi8>
  %b0 = "tiny.parameter"() {symbol = "b0", value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %w1 = "tiny.parameter"() {symbol = "w1", value = dense<1> : tensor<16x1x1x2xi8>} : () -> tensor<16x1x1x2xi8>
  %b1 = "tiny.parameter"() {symbol = "b1", value = dense<1> : tensor<16xi32>} : () -> tensor<16xi32>
  %a = "tiny.conv2d"(%x, %w0, %b0) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "small", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<2xf64>} : (!x, tensor<2x1x1x16xi8>, tensor<2xi32>) -> !h
  %b = "tiny.conv2d"(%a, %w1, %b1) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "wide", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<16xf64>} : (!h, tensor<16x1x1x2xi8>, tensor<16xi32>) -> !x
  %c = "tiny.add"(%b, %x) {clamp = array<i64: -128, 127>, layer = "sum", resultSegmentSizes = array<i32: 1, 0>} : (!x, !x) -> !x
  return %x, %b, %c : !x, !x, !x
}

// CHECK-LABEL: func.func @infer(
// CHECK-NOT:     tiny.fused_block
// CHECK:         return

// ALL-LABEL:   func.func @infer(
// ALL:           "tiny.fused_block"
// ALL:             layer = "small"
// ALL:             layer = "wide"
// ALL:           }) {layer = "small..wide"
// ALL-NEXT:      "tiny.add"

// -----

// Two branches that an addition joins: the longer one takes it along, the other stays a convolution.

!q = !quant.uniform<i8:f32, 5.000000e-01:-3>
!x = tensor<1x8x4x4x!q>
!h = tensor<1x8x4x32x!q>
func.func @infer(%x: !x) -> !x {
  %w0 = "tiny.parameter"() {symbol = "w0", value = dense<1> : tensor<32x1x1x4xi8>} : () -> tensor<32x1x1x4xi8>
  %b0 = "tiny.parameter"() {symbol = "b0", value = dense<1> : tensor<32xi32>} : () -> tensor<32xi32>
  %w1 = "tiny.parameter"() {symbol = "w1", value = dense<1> : tensor<4x1x1x32xi8>} : () -> tensor<4x1x1x32xi8>
  %b1 = "tiny.parameter"() {symbol = "b1", value = dense<1> : tensor<4xi32>} : () -> tensor<4xi32>
  %w2 = "tiny.parameter"() {symbol = "w2", value = dense<1> : tensor<4x1x1x4xi8>} : () -> tensor<4x1x1x4xi8>
  %e = "tiny.conv2d"(%x, %w0, %b0) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "expand", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<32xf64>} : (!x, tensor<32x1x1x4xi8>, tensor<32xi32>) -> !h
  %p = "tiny.conv2d"(%e, %w1, %b1) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "project", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<4xf64>} : (!h, tensor<4x1x1x32xi8>, tensor<4xi32>) -> !x
  %s = "tiny.conv2d"(%x, %w2, %b1) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "shortcut", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.5> : tensor<4xf64>} : (!x, tensor<4x1x1x4xi8>, tensor<4xi32>) -> !x
  %y = "tiny.add"(%s, %p) {clamp = array<i64: -128, 127>, layer = "join", resultSegmentSizes = array<i32: 1, 0>} : (!x, !x) -> !x
  return %y : !x
}

// ALL-LABEL:   func.func @infer(
// ALL:           %[[S:.*]] = "tiny.conv2d"({{.*}}layer = "shortcut"
// ALL:           %[[Y:.*]] = "tiny.fused_block"
// ALL:             "tiny.conv2d"({{.*}}layer = "expand"
// ALL:             "tiny.conv2d"({{.*}}layer = "project"
// ALL:             "tiny.add"({{.*}}layer = "join"
// ALL:           return %[[Y]]
