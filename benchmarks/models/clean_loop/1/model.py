"""The project's graphs in the model's process, one utterance at a time."""

from asrloop_bench.ladder.serial_model import CleanModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
