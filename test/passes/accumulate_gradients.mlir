// RUN: %tiny-opt %s -p tiny-accumulate-gradients | FileCheck %s
// RUN: not %tiny-opt %s -p tiny-accumulate-gradients,tiny-accumulate-gradients 2>&1 | FileCheck %s --check-prefix=TWICE
// RUN: not %tiny-opt %s -p tiny-fuse-updates,tiny-accumulate-gradients 2>&1 | FileCheck %s --check-prefix=FUSED

// The step sums; the other function applies with the update's own operands, then clears, and counts.

func.func @train_step(%g: tensor<1x2x1x3xf32>, %label: tensor<i32>, %rate: tensor<f32>) attributes {tiny.stage = "scaled"} {
  %b = "tiny.parameter"() {symbol = "a.b", trained, value = dense<1> : tensor<3xi32>} : () -> tensor<3xi32>
  %w = "tiny.parameter"() {symbol = "a.w", trained, value = dense<1> : tensor<2x3xi8>} : () -> tensor<2x3xi8>
  %n = "tiny.parameter"() {symbol = "step_counter", trained, value = dense<0> : tensor<1xi32>} : () -> tensor<1xi32>
  %z = "tiny.parameter"() {symbol = "gw", value = dense<0.5> : tensor<2x3xf32>} : () -> tensor<2x3xf32>
  %gb = "tiny.bias_grad"(%g) {layer = "a", scales = dense<2.0> : tensor<3xf32>} : (tensor<1x2x1x3xf32>) -> tensor<3xf32>
  "tiny.apply_update"(%b, %gb, %rate) {factors = dense<4.0> : tensor<3xf32>, layer = "a"} : (tensor<3xi32>, tensor<3xf32>, tensor<f32>) -> ()
  "tiny.stochastic_update"(%w, %z, %rate, %n) {factors = dense<1.0> : tensor<2xf32>, layer = "a", stream = 5 : i64} : (tensor<2x3xi8>, tensor<2x3xf32>, tensor<f32>, tensor<1xi32>) -> ()
  "tiny.advance_counter"(%n) : (tensor<1xi32>) -> ()
  return
}

// CHECK-LABEL: func.func @train_step(
// CHECK: %[[SUM:.*]] = "tiny.parameter"() {layer = "a", symbol = "a.b.gradient", trained, value = dense<0.000000e+00> : tensor<3xf32>}
// CHECK-NEXT: "tiny.apply_update"(%[[SUM]], %{{.*}}, %{{.*}}) {factors = dense<-1.000000e+00> : tensor<3xf32>, layer = "a"}
// CHECK: symbol = "a.w.gradient"
// CHECK-NOT: tiny.advance_counter
// CHECK-LABEL: func.func @apply_updates(
// CHECK-SAME: %[[RATE:.*]]: tensor<f32>)
// CHECK-SAME: tiny.stage = "scaled"
// CHECK: "tiny.apply_update"(%{{.*}}, %{{.*}}, %[[RATE]]) {factors = dense<4.000000e+00> : tensor<3xf32>, layer = "a"}
// CHECK: "tiny.stochastic_update"(%{{.*}}, %{{.*}}, %[[RATE]], %[[COUNTER:.*]]) {{.*}}stream = 5
// CHECK-NEXT: "tiny.advance_counter"(%[[COUNTER]])
// CHECK-COUNT-2: "tiny.clear"

// TWICE: the gradients are summed already
// FUSED: has no stored gradient to sum
