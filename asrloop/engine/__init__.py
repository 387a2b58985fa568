"""Continuous batching: who is encoded, admitted and stepped when, and one answer a request. Knows no ONNX and no Triton."""
