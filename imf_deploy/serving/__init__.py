"""Answers of finished files for images: ONNX files of any origin, engines, and stripped students."""
