"""Keeps glibc from handing each message's memory back to the kernel, which costs more than all else the client does."""

from __future__ import annotations

_BYTES = 16 << 20


def keep_large_blocks() -> None:
    """Let freed memory of up to 32 MiB be reused, as glibc does by itself once the program has freed a block of 16 MiB.

    glibc keeps no more free memory than twice the largest block it has seen freed, and a call holds several copies of its
    message at once: without this all of them are given back and their pages faulted in again for the next call. For ten
    seconds of audio that is about 0.6 ms here and more inside gRPC. The block is never touched and takes no memory;
    other allocators do not notice. See "dynamic mmap threshold" in mallopt(3).
    """
    bytes(_BYTES)
