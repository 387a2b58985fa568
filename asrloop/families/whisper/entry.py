"""Whisper's entry in the registry."""

from asrloop.families.entry import FamilyEntry
from asrloop.families.quantize.vnni import VNNI, usual_precision
from asrloop.families.whisper.decoding import INFO, Whisper
from asrloop.families.whisper.numbers import FAMILY
from asrloop.wheels import whisper_model

ENTRY = FamilyEntry(
    name=FAMILY,
    info=INFO,
    open=Whisper,
    build_module="asrloop.families.whisper.build",
    precisions={
        VNNI: "8-bit activations and weights in encoder and decoder; for processors with avx_vnni or avx512_vnni only",
        "int8": "the same with 7-bit weights, as fast and less accurate; every processor runs it",
        "fp32": "fp32 throughout; the reference",
    },
    usual_precision=usual_precision,
    source="a CTranslate2 folder, as faster-whisper has it, or a Hugging Face checkpoint",
    wheel_source=whisper_model,
)
