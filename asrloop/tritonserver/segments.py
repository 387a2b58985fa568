"""Shared memory of the Python backend: the names of a server's segments, and removing those of servers that were killed.

Each server has a file beside its segments that it and its model processes hold locked (flock(2)). A lock ends with the last of
them, however that ends, and is seen from every container that shares the folder. So a server whose file is not locked is dead, and
segments without such a file, which another program made, are never touched.
"""

import contextlib
import fcntl
import os
import re
import secrets

from asrloop.tritonserver.checks import SHARED_MEMORY

REGION = "triton_python_backend_shm_region_"
"""Newer servers do not let clients register shared memory whose name begins so; this protects ours."""

_LOCK = re.compile(REGION + r"\d+_\d+_[0-9a-f]{8}_lock")


class Segments:
    """The segments of one server: all files whose name begins with ``prefix``. Its processes inherit the descriptor ``lock``."""

    def __init__(self, port: int) -> None:
        """Take a new name. Raises OSError where the folder is full or cannot be written."""
        self.prefix = f"{REGION}{os.getpid()}_{port}_{secrets.token_hex(4)}_"
        unlocked = SHARED_MEMORY / f"{self.prefix}new"
        self.lock = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        unlocked.rename(SHARED_MEMORY / f"{self.prefix}lock")  # nobody sees it without its lock

    def remove(self) -> int:
        """Remove the segments, and return their bytes. The processes must have ended."""
        found = _remove(self.prefix)
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1
        return found


def remove_left_over() -> int:
    """Remove the segments of servers of this user that were killed, and return their bytes."""
    removed = 0
    for path in SHARED_MEMORY.glob(f"{REGION}*_lock"):
        if _LOCK.fullmatch(path.name) is None:
            continue
        with contextlib.suppress(OSError):  # another's, or removed meanwhile
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_uid == os.geteuid():
                    removed += _remove(path.name.removesuffix("lock"))
            finally:
                os.close(descriptor)
    return removed


def _remove(prefix: str) -> int:
    """Remove the lock last: until then another start finds what this one leaves."""
    removed = 0
    for path in sorted(SHARED_MEMORY.glob(f"{prefix}*"), key=lambda path: path.name.endswith("_lock")):
        with contextlib.suppress(OSError):
            size = path.lstat().st_size
            path.unlink()
            removed += size
    return removed
