"""ONNX and TensorRT writers (installs as ``imf_deploy.export``)."""
