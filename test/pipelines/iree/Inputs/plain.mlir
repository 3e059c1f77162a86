// The words "tiny.add"(%a) in a comment or in a string do not make this a tiny module.
func.func @double(%x: tensor<4xf32>) -> tensor<4xf32> attributes {note = "tiny.conv2d"} {
  %y = arith.addf %x, %x : tensor<4xf32>
  return %y : tensor<4xf32>
}
