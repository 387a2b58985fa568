"""Graphs whose products need VNNI are made where there is VNNI, and are not opened anywhere else."""

from pathlib import Path

import pytest

from asrloop.families.quantize import vnni


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t\t: fpu avx2 avx_vnni\n", True),
        ("processor\t: 0\nflags\t\t: avx512f avx512_vnni\n", True),
        ("flags\t\t: avx2 avx512f avx512_vnnix\nbugs\t\t: avx_vnni\n", False),
        ("Features\t: asimd asimddp\n", False),
        ("", False),
    ],
)
def test_the_flags_say_whether_there_is_vnni(flags: str, expected: bool, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(flags)
    assert vnni.has_vnni(cpuinfo) is expected


def test_no_file_means_no_vnni(tmp_path: Path) -> None:
    assert not vnni.has_vnni(tmp_path / "cpuinfo")


def test_a_model_for_vnni_is_refused_elsewhere_and_the_message_says_how_to_fix_it(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags : avx2\n")
    with pytest.raises(ValueError, match="int8-vnni.*asrloop models --precision int8"):
        vnni.check(vnni.VNNI, cpuinfo)
    vnni.check("int8", cpuinfo)
    cpuinfo.write_text("flags : avx2 avx_vnni\n")
    vnni.check(vnni.VNNI, cpuinfo)
