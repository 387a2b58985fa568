"""Audio through system shared memory, for servers on this machine: regions made and registered once and reused."""

from __future__ import annotations

import os
import threading
import uuid
from typing import Any

import tritonclient.utils.shared_memory as triton_shm
from tritonclient.grpc import service_pb2

from asrloop_client.audio import Samples
from asrloop_client.errors import SharedMemoryFailed

_SMALLEST_BYTES = 1 << 20
_LOCAL_HOSTS = {"localhost", "127.0.0.1", "[::1]", "unix"}


def require_local(address: str) -> None:
    """Raise SharedMemoryFailed unless `address` is on this machine."""
    host = address.rpartition(":")[0] or address
    if host.removeprefix("ipv4:").removeprefix("dns:") not in _LOCAL_HOSTS and not address.startswith("unix:"):
        raise SharedMemoryFailed(
            f"shared_memory=True and server {address}: shared memory works with servers on this machine only "
            f"({', '.join(sorted(_LOCAL_HOSTS))}). Use shared_memory=False."
        )


class Region:
    """One segment; used by one call at a time."""

    def __init__(self, byte_size: int) -> None:
        self.name = f"asrloop-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self.byte_size = byte_size
        self.registered = False
        try:
            self._handle: Any = triton_shm.create_shared_memory_region(self.name, self.name, byte_size, True)
        except triton_shm.SharedMemoryException as error:
            raise SharedMemoryFailed(
                f"a shared memory segment of {byte_size} bytes could not be made: {error.__cause__}. "
                "Make /dev/shm larger (Docker: --shm-size=1g) or use shared_memory=False."
            ) from error

    def write(self, samples: Samples) -> None:
        """Put `samples` [N] at the start."""
        triton_shm.set_shared_memory_region(self._handle, [samples])

    def register_request(self) -> Any:
        """The SystemSharedMemoryRegister request that makes it known to a server."""
        return service_pb2.SystemSharedMemoryRegisterRequest(
            name=self.name, key=f"/{self.name}", offset=0, byte_size=self.byte_size
        )

    def unregister_request(self) -> Any:
        """The request that makes the server forget it."""
        return service_pb2.SystemSharedMemoryUnregisterRequest(name=self.name)

    def destroy(self) -> None:
        """Remove the segment from /dev/shm; a server that still maps it keeps its pages until it forgets it."""
        triton_shm.destroy_shared_memory_region(self._handle)


class Regions:
    """The regions of one server: all of them, and those that no call uses now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: list[Region] = []
        self._free: list[Region] = []
        self._pid = os.getpid()

    def take(self, byte_size: int) -> Region:
        """A free region of at least `byte_size`, the smallest that fits, or a new one; sizes are powers of two."""
        with self._lock:
            fitting = [region for region in self._free if region.byte_size >= byte_size]
            if fitting:
                region = min(fitting, key=lambda each: each.byte_size)
                self._free.remove(region)
                return region
            region = Region(max(_SMALLEST_BYTES, 1 << (byte_size - 1).bit_length()))
            self._all.append(region)
            return region

    def give_back(self, region: Region) -> None:
        """End one call's use of `region`."""
        with self._lock:
            self._free.append(region)

    def registered(self) -> list[Region]:
        """The regions that the server knows."""
        with self._lock:
            return [region for region in self._all if region.registered]

    def destroy(self) -> None:
        """Remove all segments. In a forked child it does nothing: they are the parent's."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            for region in self._all:
                region.destroy()
            self._all.clear()
            self._free.clear()
