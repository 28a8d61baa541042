"""Names of the input and the output of the ONNX files and engines that are written."""

INPUT = "images"
OUTPUT = "logits"
