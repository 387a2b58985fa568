"""The memory of messages is reused instead of being faulted in again for each."""

import platform
import subprocess
import sys

import pytest

PROGRAM = '''
import resource
from asrloop_client.large_blocks import keep_large_blocks
def faults():
    """Of 50 calls on ten seconds of audio, each of which holds four copies of its message."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        copies = [b"x" * 640_000 for _ in range(4)]
        del copies
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
before = faults()
keep_large_blocks()
faults()
print(before, faults())
'''


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have other rules")
def test_blocks_of_ten_seconds_of_audio_are_not_faulted_in_again() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    before, after = map(int, result.stdout.split())
    assert before > 50 * 500, "glibc reuses such blocks by itself: large_blocks.py can go"
    assert after < 50
