"""The vendor's graphs called through Triton, one utterance at a time."""

from asrloop_bench.ladder.serial_model import VendorModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
