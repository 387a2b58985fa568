"""ONNX files: open sessions, write graphs, read the vendor's format, write Triton models."""
