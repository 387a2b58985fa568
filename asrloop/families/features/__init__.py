"""Acoustic features as ONNX graphs."""
