// RUN: %tiny-opt %s -p 'tiny-differentiate,tiny-select-updates{scheme=%S/Inputs/partial.json}' | FileCheck %s
// RUN: %tiny-opt %s -p 'tiny-differentiate,tiny-select-updates{scheme=%S/Inputs/whole.json}' | FileCheck %s --check-prefix=WHOLE
// RUN: %tiny-opt %s -p 'tiny-differentiate,tiny-select-updates{scheme=%S/Inputs/whole.json update=float32}' | FileCheck %s --check-prefix=FLOAT
// RUN: %tiny-opt %s -p 'tiny-differentiate,tiny-select-updates{scheme=%S/Inputs/whole.json update=int8}' | FileCheck %s --check-prefix=INT8
// RUN: not %tiny-opt %s -p 'tiny-differentiate,tiny-select-updates{scheme=%S/Inputs/missing_layer.json}' 2>&1 | FileCheck %s --check-prefix=MISSING
// RUN: not %tiny-opt %s -p 'tiny-differentiate,tiny-select-updates{scheme=%S/Inputs/absent.json}' 2>&1 | FileCheck %s --check-prefix=ABSENT
// RUN: not %tiny-opt %s -p 'tiny-differentiate,tiny-select-updates{scheme=%S/Inputs/whole.json},tiny-select-updates{scheme=%S/Inputs/partial.json}' 2>&1 | FileCheck %s --check-prefix=TWICE

!x = tensor<1x4x3x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>
!y = tensor<1x4x3x2x!quant.uniform<i8:f32, 2.500000e-01:1>>
!p = tensor<1x1x1x2x!quant.uniform<i8:f32, 2.500000e-01:1>>
func.func @infer(%x: !x) -> tensor<1x2xf32> {
  %w = "tiny.parameter"() {layer = "a", symbol = "a.w", value = dense<[[[[9, 7, 6]]], [[[0, 6, -8]]]]> : tensor<2x1x1x3xi8>} : () -> tensor<2x1x1x3xi8>
  %b = "tiny.parameter"() {layer = "a", symbol = "a.b", value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %dw = "tiny.parameter"() {layer = "d", symbol = "d.w", value = dense<[[[[1]]], [[[-128]]]]> : tensor<2x1x1x1xi8>} : () -> tensor<2x1x1x1xi8>
  %db = "tiny.parameter"() {layer = "d", symbol = "d.b", value = dense<1> : tensor<2xi32>} : () -> tensor<2xi32>
  %hw = "tiny.parameter"() {layer = "head", symbol = "head.w", value = dense<1.0> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
  %hb = "tiny.parameter"() {layer = "head", symbol = "head.b", value = dense<1.0> : tensor<2xf32>} : () -> tensor<2xf32>
  %y = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "a", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<[0.25, 0.5]> : tensor<2xf64>} : (!x, tensor<2x1x1x3xi8>, tensor<2xi32>) -> !y
  %d = "tiny.conv2d"(%y, %dw, %db) {clamp = array<i64: -128, 127>, groups = 2 : i64, layer = "d", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<[0.5, 0.25]> : tensor<2xf64>} : (!y, tensor<2x1x1x1xi8>, tensor<2xi32>) -> !y
  %p = "tiny.global_average_pool"(%d) {layer = "pool"} : (!y) -> !p
  %f = "tiny.dequantize"(%p) {layer = "float"} : (!p) -> tensor<1x1x1x2xf32>
  %l = "tiny.linear"(%f, %hw, %hb) {layer = "head"} : (tensor<1x1x1x2xf32>, tensor<2x2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  return %l : tensor<1x2xf32>
}

// The scheme: the last bias, a third of the inputs of `a`, half of the channels of `d` (by index).
// Real column norms of `a`: |9 / 4|, |7 / 4, 6 / 2|, |6 / 4, -8 / 2|: the third is the largest.
// The copy of the chosen channels stands right behind what produces them.

// CHECK-LABEL: func.func @train_step(
// CHECK-SAME:    %[[X:.*]]: tensor<1x4x3x3x!quant.uniform<i8:f32, 5.000000e-01:-3>>,
// CHECK-NEXT:    %[[XC:.*]] = "tiny.gather_channels"(%[[X]]) {channels = array<i64: 2>, layer = "a"}
// CHECK-NEXT:    %[[W:.*]] = "tiny.parameter"() {layer = "a", symbol = "a.w", value
// CHECK-NEXT:    %[[WT:.*]] = "tiny.parameter"() {layer = "a", symbol = "a.w.trained", trained, value = dense<{{\[\[\[\[}}1664]]], {{\[\[\[}}-1920]]]]> : tensor<2x1x1x1xi16>}
// CHECK-NEXT:    "tiny.parameter"() {layer = "a", symbol = "a.b", value
// CHECK-NEXT:    %[[DW:.*]] = "tiny.parameter"() {layer = "d", symbol = "d.w", value
// CHECK-NEXT:    %[[DWT:.*]] = "tiny.parameter"() {layer = "d", symbol = "d.w.trained", trained, value = dense<-32640> : tensor<1x1x1x1xi16>}
// CHECK-NEXT:    %[[DB:.*]] = "tiny.parameter"() {layer = "d", symbol = "d.b", trained, value = dense<1> : tensor<2xi32>}
// CHECK-NEXT:    %[[HW:.*]] = "tiny.parameter"() {layer = "head", symbol = "head.w", trained, value
// CHECK-NEXT:    %[[HB:.*]] = "tiny.parameter"() {layer = "head", symbol = "head.b", trained, value
// CHECK-NEXT:    %[[Y:.*]]:2 = "tiny.conv2d"(%[[X]], %[[W]], %{{.*}}, %[[WT]]) {{.*}}layer = "a", operandSegmentSizes = array<i32: 1, 1, 1, 1>, {{.*}}trained_channels = array<i64: 2>
// CHECK-NEXT:    %[[YC:.*]] = "tiny.gather_channels"(%[[Y]]#0) {channels = array<i64: 1>, layer = "d"}
// CHECK-NEXT:    "tiny.conv2d"(%[[Y]]#0, %[[DW]], %[[DB]], %[[DWT]]) {{.*}}trained_channels = array<i64: 1>
// CHECK:         "tiny.conv2d_input_grad"(%[[GD:.*]], %[[DW]], %[[DWT]]) {{.*}}layer = "d", operandSegmentSizes = array<i32: 1, 1, 1>, {{.*}}trained_channels = array<i64: 1>
// CHECK:         %[[GDW:.*]] = "tiny.conv2d_weight_grad"(%[[YC]], %[[GD]]) {groups = 1 : i64, layer = "d", output_channels = array<i64: 1>, {{.*}}scales = dense<2.500000e-01> : tensor<1xf32>{{.*}} -> tensor<1x1x1x1xf32>
// CHECK:         %[[GW:.*]] = "tiny.conv2d_weight_grad"(%[[XC]], %{{.*}}) {groups = 1 : i64, layer = "a", {{.*}}scales = dense<[5.000000e-01, 1.000000e+00]> : tensor<2xf32>{{.*}} -> tensor<2x1x1x1xf32>
// CHECK:         "tiny.apply_update"(%[[WT]], %[[GW]], %{{.*}}) {factors = dense<1.000000e+00> : tensor<2xf32>, layer = "a"}
// CHECK-NEXT:    "tiny.apply_update"(%[[DWT]], %[[GDW]], %{{.*}}) {factors = dense<1.000000e+00> : tensor<1xf32>, layer = "d"}
// CHECK-NEXT:    "tiny.apply_update"(%[[DB]]
// CHECK-NEXT:    "tiny.apply_update"(%[[HW]]
// CHECK-NEXT:    "tiny.apply_update"(%[[HB]]
// CHECK-NEXT:    return

// A whole weight is one master, read by the forward pass as it is; nothing is copied.

// WHOLE-LABEL: func.func @train_step
// WHOLE-NEXT:    %[[W:.*]] = "tiny.parameter"() {layer = "a", symbol = "a.w", trained, value = dense<{{\[\[\[\[}}2432, 1920, 1664]]], {{\[\[\[}}128, 1664, -1920]]]]> : tensor<2x1x1x3xi16>}
// WHOLE-NEXT:    "tiny.parameter"() {layer = "a", symbol = "a.b", value
// WHOLE-NEXT:    "tiny.parameter"() {layer = "d", symbol = "d.w", value
// WHOLE-NEXT:    "tiny.parameter"() {layer = "d", symbol = "d.b", value
// WHOLE-NOT:     gather_channels
// WHOLE:         "tiny.conv2d"({{.*}}, %[[W]], {{.*}}tensor<2x1x1x3xi16>
// WHOLE:         "tiny.apply_update"(%[[W]], {{.*}}(tensor<2x1x1x3xi16>, tensor<2x1x1x3xf32>, tensor<f32>)

// FLOAT:         symbol = "a.w", trained, value = dense<{{.*}}9.000000e+00, 7.000000e+00, 6.000000e+00{{.*}}> : tensor<2x1x1x3xf32>
// INT8:          symbol = "a.w", trained, value = dense<{{.*}}9, 7, 6{{.*}}> : tensor<2x1x1x3xi8>

// MISSING:       missing_layer.json: weights["stem"]: no such layer; the model has 2 convolutions (0 to 1, from a to d), classifier excluded
// ABSENT:        absent.json: No such file or directory
// TWICE:         tiny-select-updates: has no update of d.b: no gradient reaches it, or tiny-differentiate must run first
