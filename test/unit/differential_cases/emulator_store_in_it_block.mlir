// tiny-difftest: {"scheme": {"name": "random", "biases": 0, "weights": {}}, "options": {"update": "int16", "gradients": "float32", "qas": true, "in_place": true, "alignment": 8, "fuse_blocks": "off", "row_overlap": "all", "fuse_updates": true, "reorder": true, "stream_input": false, "rescaling": "qas", "seed": 0, "accumulate": false, "search": "greedy", "for_target": true}, "rate": 0.036, "steps": 1, "seed": 1000165}
module {
  func.func @infer(%arg0: tensor<1x14x1x1x!quant.uniform<i8:f32, 2.000000e-02>>) -> tensor<1x2xf32> attributes {tiny.model = "random1000165", tiny.stage = "model"} {
    %0 = "tiny.parameter"() {layer = "conv0", symbol = "conv0.weight", value = dense<[[[[53]], [[-5]], [[-35]], [[-40]], [[30]], [[42]], [[-2]]]]> : tensor<1x7x1x1xi8>} : () -> tensor<1x7x1x1xi8>
    %1 = "tiny.parameter"() {layer = "conv0", symbol = "conv0.bias", value = dense<504> : tensor<1xi32>} : () -> tensor<1xi32>
    %2 = "tiny.conv2d"(%arg0, %0, %1) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "conv0", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 0, 4, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 3, 2>, weight_scales = dense<0.0092742685902130941> : tensor<1xf64>} : (tensor<1x14x1x1x!quant.uniform<i8:f32, 2.000000e-02>>, tensor<1x7x1x1xi8>, tensor<1xi32>) -> tensor<1x5x1x1x!quant.uniform<i8:f32, 0.035712659358978271>>
    %3 = "tiny.parameter"() {layer = "conv1", symbol = "conv1.weight", value = dense<[[[[-27]]], [[[46]]]]> : tensor<2x1x1x1xi8>} : () -> tensor<2x1x1x1xi8>
    %4 = "tiny.parameter"() {layer = "conv1", symbol = "conv1.bias", value = dense<[-2, 967]> : tensor<2xi32>} : () -> tensor<2xi32>
    %5 = "tiny.conv2d"(%2, %3, %4) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "conv1", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<[0.0051619665105087165, 0.0099626858847882398]> : tensor<2xf64>} : (tensor<1x5x1x1x!quant.uniform<i8:f32, 0.035712659358978271>>, tensor<2x1x1x1xi8>, tensor<2xi32>) -> tensor<1x5x1x2x!quant.uniform<i8:f32, 0.013591641560196877>>
    %6 = "tiny.global_average_pool"(%5) {layer = "pool"} : (tensor<1x5x1x2x!quant.uniform<i8:f32, 0.013591641560196877>>) -> tensor<1x1x1x2x!quant.uniform<i8:f32, 0.013591641560196877>>
    %7 = "tiny.dequantize"(%6) {layer = "head"} : (tensor<1x1x1x2x!quant.uniform<i8:f32, 0.013591641560196877>>) -> tensor<1x1x1x2xf32>
    %8 = "tiny.parameter"() {layer = "head", symbol = "head.weight", value = dense<[[0.839561581, 3.34860897], [2.92908406, 4.57161713]]> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
    %9 = "tiny.parameter"() {layer = "head", symbol = "head.bias", value = dense<[7.546880e-02, -0.209988073]> : tensor<2xf32>} : () -> tensor<2xf32>
    %10 = "tiny.linear"(%7, %8, %9) {layer = "head"} : (tensor<1x1x1x2xf32>, tensor<2x2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
    return %10 : tensor<1x2xf32>
  }
}
