"""asrloop: speech recognition on Triton with the decode loop inside the server. This package imports no Triton."""

import os

__version__ = "0.1.0"

# ONNX Runtime reports how it is used to its maker, from 1.29 on, unless this is set before it is loaded. Whoever serves others'
# speech has not agreed to that; 0 in the environment allows it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
