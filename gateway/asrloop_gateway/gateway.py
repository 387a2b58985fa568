"""What all routes share: settings, the client of the servers, admission, metrics, and the end. Knows no protocol."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass

from asrloop_client import AsyncAsrClient, AsyncStream, DeadlineExceeded, PoolConfig

from asrloop_gateway.admission import Admission
from asrloop_gateway.budget import Budget
from asrloop_gateway.errors import ApiError, closing, overloaded, unavailable
from asrloop_gateway.metrics import Metrics
from asrloop_gateway.settings import Settings

_CALLS_PER_CHANNEL = 8
"""Live streams keep their channel for as long as they last."""
OnBytes = Callable[[int], None]
_COPIES = 3
"""Of an upload while it is sent: its bytes, the message, and gRPC's own."""
GONE = 499
"""The status in the metrics of a caller that went away before the answer."""


@dataclass
class Outcome:
    """What the metrics are to count."""

    status: int


class Gateway:
    """Lives in one asyncio loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.admission = Admission(settings)
        self.metrics = Metrics()
        self.started = int(time.time())
        channels = -(-(settings.transcriptions + settings.sockets) // _CALLS_PER_CHANNEL) + 1
        self.client = AsyncAsrClient(
            settings.server.replace(",", " "),
            prewarm=False,
            timeout=settings.transcription_seconds,
            pool=PoolConfig(min_channels=min(4, channels), max_channels=channels, calls_per_channel=_CALLS_PER_CHANNEL),
            probe_interval=10.0,
        )
        self.closing = asyncio.Event()
        """Set when the gateway stops: nothing new begins, what runs comes to its end."""
        self._running = 0
        self._uploads = self._on_disk = 0
        self._memory = Budget(int(settings.memory_megabytes * 1e6))

    @contextmanager
    def running(self, route: str, status: int = 200) -> Iterator[Outcome]:
        """Around a request or a socket: counts it, with `status` unless it fails. Raises ApiError when the gateway stops."""
        began, outcome = time.monotonic(), Outcome(status)
        self._running += 1
        self.metrics.running.labels(route).inc()
        try:
            if self.closing.is_set():
                raise closing()
            yield outcome
        except ApiError as error:
            outcome.status = error.status
            raise
        except asyncio.CancelledError:
            outcome.status = GONE
            raise
        except BaseException:
            outcome.status = 500
            raise
        finally:
            self._running -= 1
            self.metrics.running.labels(route).dec()
            self.metrics.requests.labels(route, outcome.status).inc()
            self.metrics.seconds.labels(route).observe(time.monotonic() - began)

    @contextmanager
    def upload(self) -> Iterator[OnBytes]:
        """Around the reading and transcribing of an upload, which tells of the bytes that it puts on the disk.

        Raises ApiError 503 for one upload, or one byte, too many.
        """
        if self._uploads >= self.settings.transcriptions:
            raise overloaded(f"{self._uploads} uploads are under way, the most there may be: try again later")
        self._uploads += 1
        mine = 0

        def take(size: int) -> None:
            nonlocal mine
            if self._on_disk + size > 1e6 * self.settings.disk_megabytes:
                raise overloaded(
                    f"uploads take {self._on_disk} bytes of the disk, the most there may be: try again later"
                )
            self._on_disk += size
            mine += size
            self.metrics.upload_bytes.set(self._on_disk)

        try:
            yield take
        finally:
            self._uploads -= 1
            self._on_disk -= mine
            self.metrics.upload_bytes.set(self._on_disk)

    def memory(self, size: int) -> AbstractAsyncContextManager[None]:
        """To be entered around sending an upload of `size` bytes; waits until others have freed theirs."""
        return self._memory.share(_COPIES * size)

    async def server_there(self) -> None:
        """Return when a server is there. Raises ApiError 503 when none comes in time."""
        if any(state.ready for state in self.client.stats()):
            return
        try:
            await self.client.wait_until_ready(self.settings.server_seconds)
        except DeadlineExceeded:
            raise unavailable() from None

    def stream(self, rate: int) -> AsyncStream:
        """Live audio of `rate` Hz. A server that is lost is replaced; the open segment is heard again."""
        return self.client.stream(sample_rate=rate, timeout=self.settings.server_seconds, resume=True)

    async def drain(self) -> None:
        """Refuse what is new, and wait for what runs, for a limited time."""
        self.closing.set()
        until = time.monotonic() + self.settings.drain_seconds
        while self._running and time.monotonic() < until:
            await asyncio.sleep(0.05)
