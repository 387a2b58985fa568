"""The precision recipe for the processor: with VNNI instructions products of full 8-bit weights are exact and as fast."""

from pathlib import Path

VNNI = "int8-vnni"
"""Recipe whose graphs need VNNI: without, ONNX Runtime's products of integers saturate, and the words are wrong."""

_CPUINFO = Path("/proc/cpuinfo")


def has_vnni(cpuinfo: Path = _CPUINFO) -> bool:
    """Return True when the processor has VNNI as 256- or 512-bit instructions."""
    try:
        lines = cpuinfo.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return "avx_vnni" in flags or "avx512_vnni" in flags


def usual_precision() -> str:
    """Return the recipe that is used by default."""
    return VNNI if has_vnni() else "int8"


def check(precision: str, cpuinfo: Path = _CPUINFO) -> None:
    """Raise ValueError for a recipe whose graphs this processor computes wrongly."""
    if precision == VNNI and not has_vnni(cpuinfo):
        raise ValueError(
            f"the model's precision is {precision}, and this processor has neither avx_vnni nor avx512_vnni: its words would be "
            "wrong; make the models again with `asrloop models --precision int8`, which every processor runs"
        )
