"""Live audio: what of a stream is decoded when, and which words of it will not change any more. Policy: no Triton, no ONNX."""
