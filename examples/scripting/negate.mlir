// A network with tiny.negate (negate.py) between its convolution and its head.
func.func @infer(%x: tensor<1x2x3x1x!quant.uniform<i8:f32, 2.0e-02>>) -> tensor<1x2xf32> attributes {tiny.model = "negate", tiny.stage = "model"} {
  %w = "tiny.parameter"() {layer = "conv", symbol = "conv.weight", value = dense<[[[[41]]], [[[-20]]]]> : tensor<2x1x1x1xi8>} : () -> tensor<2x1x1x1xi8>
  %b = "tiny.parameter"() {layer = "conv", symbol = "conv.bias", value = dense<[24, -8]> : tensor<2xi32>} : () -> tensor<2xi32>
  %c = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "conv", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<[1.2e-2, 1.1e-2]> : tensor<2xf64>} : (tensor<1x2x3x1x!quant.uniform<i8:f32, 2.0e-02>>, tensor<2x1x1x1xi8>, tensor<2xi32>) -> tensor<1x2x3x2x!quant.uniform<i8:f32, 3.0e-2:-3>>
  %n = "tiny.negate"(%c) {layer = "negate"} : (tensor<1x2x3x2x!quant.uniform<i8:f32, 3.0e-2:-3>>) -> tensor<1x2x3x2x!quant.uniform<i8:f32, 3.0e-2:3>>
  %p = "tiny.global_average_pool"(%n) {layer = "pool"} : (tensor<1x2x3x2x!quant.uniform<i8:f32, 3.0e-2:3>>) -> tensor<1x1x1x2x!quant.uniform<i8:f32, 3.0e-2:3>>
  %d = "tiny.dequantize"(%p) {layer = "head"} : (tensor<1x1x1x2x!quant.uniform<i8:f32, 3.0e-2:3>>) -> tensor<1x1x1x2xf32>
  %hw = "tiny.parameter"() {layer = "head", symbol = "head.weight", value = dense<[[-2.0, 0.5], [1.0, 0.25]]> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
  %hb = "tiny.parameter"() {layer = "head", symbol = "head.bias", value = dense<[-1.0, 0.5]> : tensor<2xf32>} : () -> tensor<2xf32>
  %y = "tiny.linear"(%d, %hw, %hb) {layer = "head"} : (tensor<1x1x1x2xf32>, tensor<2x2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  return %y : tensor<1x2xf32>
}
