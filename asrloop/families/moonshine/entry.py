"""Moonshine's entry in the registry."""

from asrloop.families.entry import FamilyEntry
from asrloop.families.moonshine.decoding import FAMILY, INFO, Moonshine
from asrloop.families.quantize.vnni import VNNI, usual_precision
from asrloop.wheels import MOONSHINE_MODEL, moonshine_assets

ENTRY = FamilyEntry(
    name=FAMILY,
    info=INFO,
    open=Moonshine,
    build_module="asrloop.families.moonshine.build",
    precisions={
        VNNI: "8-bit activations and weights in encoder and decoder; for processors with avx_vnni or avx512_vnni only",
        "int8": "the same with 7-bit weights, as fast and less accurate; every processor runs it",
        "int8-decoder": "the decoder as in int8, the encoder in fp32",
        "fp32": "fp32 throughout; the reference",
    },
    usual_precision=usual_precision,
    source="a directory of the moonshine-voice package or a Hugging Face checkpoint",
    wheel_source=lambda cache: moonshine_assets(cache) / MOONSHINE_MODEL,
)
