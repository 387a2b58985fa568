"""The vendor's graphs in the model's process, one utterance at a time."""

from asrloop_bench.ladder.serial_model import VendorModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
