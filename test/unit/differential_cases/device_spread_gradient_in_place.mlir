// tiny-difftest: {"scheme": {"name": "random", "biases": "all", "weights": {}}, "options": {"update": "int16", "gradients": "int8", "qas": true, "in_place": true, "alignment": 4, "fuse_blocks": "off", "row_overlap": "off", "fuse_updates": true, "reorder": true, "stream_input": false, "rescaling": "qas", "seed": 0, "accumulate": false, "search": "greedy", "for_target": false}, "rate": 0.01, "steps": 1, "seed": 6}
module {
  func.func @infer(%arg0: tensor<1x2x1x1x!quant.uniform<i8:f32, 2.000000e-02>>) -> tensor<1x2xf32> attributes {tiny.model = "random6", tiny.stage = "model"} {
    %0 = "tiny.parameter"() {layer = "conv", symbol = "conv.weight", value = dense<[[[[-21]]], [[[55]]], [[[0]]], [[[24]]], [[[-46]]]]> : tensor<5x1x1x1xi8>} : () -> tensor<5x1x1x1xi8>
    %1 = "tiny.parameter"() {layer = "conv", symbol = "conv.bias", value = dense<[544, 329, -251, 223, -505]> : tensor<5xi32>} : () -> tensor<5xi32>
    %2 = "tiny.conv2d"(%arg0, %0, %1) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "conv", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<[0.0088804387782440846, 0.0096093956023193954, 0.010076756796556865, 0.018442017164054799, 0.011880929660962004]> : tensor<5xf64>} : (tensor<1x2x1x1x!quant.uniform<i8:f32, 2.000000e-02>>, tensor<5x1x1x1xi8>, tensor<5xi32>) -> tensor<1x2x1x5x!quant.uniform<i8:f32, 0.0071477093733847141>>
    %3 = "tiny.global_average_pool"(%2) {layer = "pool"} : (tensor<1x2x1x5x!quant.uniform<i8:f32, 0.0071477093733847141>>) -> tensor<1x1x1x5x!quant.uniform<i8:f32, 0.0071477093733847141>>
    %4 = "tiny.dequantize"(%3) {layer = "head"} : (tensor<1x1x1x5x!quant.uniform<i8:f32, 0.0071477093733847141>>) -> tensor<1x1x1x5xf32>
    %5 = "tiny.parameter"() {layer = "head", symbol = "head.weight", value = dense<[[-4.18919468, 0.345600307, -5.94533491, 2.04782414, -5.84418106], [-0.93482697, -1.41850567, -5.37737703, 3.49928546, -1.2008884]]> : tensor<2x5xf32>} : () -> tensor<2x5xf32>
    %6 = "tiny.parameter"() {layer = "head", symbol = "head.bias", value = dense<[-0.445399046, 0.457971036]> : tensor<2xf32>} : () -> tensor<2xf32>
    %7 = "tiny.linear"(%4, %5, %6) {layer = "head"} : (tensor<1x1x1x5xf32>, tensor<2x5xf32>, tensor<2xf32>) -> tensor<1x2xf32>
    return %7 : tensor<1x2xf32>
  }
}
