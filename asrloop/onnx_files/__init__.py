"""ONNX files: opened as sessions, written node by node, read out of the vendor's own format, and laid out as Triton models."""
