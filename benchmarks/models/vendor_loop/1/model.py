from asrloop_bench.ladder.serial_model import TritonPythonModel as TritonPythonModel  # noqa: D100 - see config.pbtxt
