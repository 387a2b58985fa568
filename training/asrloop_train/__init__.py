"""Trains the small TDT transducer that the tests use. Needs the ``train`` extra (PyTorch) and espeak-ng."""
