"""Transducers in the layout of NVIDIA NeMo (Parakeet): ``greedy`` decodes, ``build`` prepares a directory of ONNX files."""
