"""The transducer's entry in the registry."""

from asrloop.families.entry import FamilyEntry
from asrloop.families.transducer.greedy import INFO
from asrloop.families.transducer.opening import FAMILY, open_transducer

ENTRY = FamilyEntry(
    name=FAMILY,
    also_called=("nemo",),
    info=INFO,
    open=open_transducer,
    build_module="asrloop.families.transducer.build",
    precisions={"fp32": "as the files are"},
    usual_precision=lambda: "fp32",
    source="a directory with encoder-model.onnx, decoder_joint-model.onnx and vocab.txt",
)
