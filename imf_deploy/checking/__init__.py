"""Whether an ONNX file loads and agrees in other runtimes and on other processors."""
