// tiny-difftest: {"scheme": {"name": "random", "biases": 0, "weights": {}}, "options": {"update": "int16", "gradients": "float32", "qas": true, "in_place": true, "alignment": 4, "fuse_blocks": "off", "row_overlap": "off", "fuse_updates": true}, "rate": 0.0112, "steps": 1, "seed": 210000}
module {
  func.func @infer(%arg0: tensor<1x1x2x1x!quant.uniform<i8:f32, 2.000000e-02>>) -> tensor<1x2xf32> attributes {tiny.model = "random210000", tiny.stage = "model"} {
    %0 = "tiny.parameter"() {layer = "conv0", symbol = "conv0.weight", value = dense<41> : tensor<1x1x1x1xi8>} : () -> tensor<1x1x1x1xi8>
    %1 = "tiny.parameter"() {layer = "conv0", symbol = "conv0.bias", value = dense<24> : tensor<1xi32>} : () -> tensor<1xi32>
    %2 = "tiny.conv2d"(%arg0, %0, %1) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "conv0", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.011739494846495578> : tensor<1xf64>} : (tensor<1x1x2x1x!quant.uniform<i8:f32, 2.000000e-02>>, tensor<1x1x1x1xi8>, tensor<1xi32>) -> tensor<1x1x2x1x!quant.uniform<i8:f32, 3.6098947748541832E-4:-128>>
    %3 = "tiny.add"(%2, %2) {clamp = array<i64: -128, 127>, layer = "add2", resultSegmentSizes = array<i32: 1, 0>} : (tensor<1x1x2x1x!quant.uniform<i8:f32, 3.6098947748541832E-4:-128>>, tensor<1x1x2x1x!quant.uniform<i8:f32, 3.6098947748541832E-4:-128>>) -> tensor<1x1x2x1x!quant.uniform<i8:f32, 9.0247367552365176E-6:127>>
    %4 = "tiny.global_average_pool"(%3) {layer = "pool"} : (tensor<1x1x2x1x!quant.uniform<i8:f32, 9.0247367552365176E-6:127>>) -> tensor<1x1x1x1x!quant.uniform<i8:f32, 9.0247367552365176E-6:127>>
    %5 = "tiny.dequantize"(%4) {layer = "head"} : (tensor<1x1x1x1x!quant.uniform<i8:f32, 9.0247367552365176E-6:127>>) -> tensor<1x1x1x1xf32>
    %6 = "tiny.parameter"() {layer = "head", symbol = "head.weight", value = dense<[[-2.09425092], [-2.09515595]]> : tensor<2x1xf32>} : () -> tensor<2x1xf32>
    %7 = "tiny.parameter"() {layer = "head", symbol = "head.bias", value = dense<[-1.20652759, -0.18682532]> : tensor<2xf32>} : () -> tensor<2xf32>
    %8 = "tiny.linear"(%5, %6, %7) {layer = "head"} : (tensor<1x1x1x1xf32>, tensor<2x1xf32>, tensor<2xf32>) -> tensor<1x2xf32>
    return %8 : tensor<1x2xf32>
  }
}
