"""asrloop: speech recognition on Triton with the decode loop inside the server. This package imports no Triton."""

__version__ = "0.1.0"
