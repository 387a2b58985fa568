"""An asyncio loop in a thread of its own, for callers in threads and in other loops."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from asrloop_client.errors import Cancelled, ClientClosed, ClientForked

T = TypeVar("T")

_CLOSE_SECONDS = 5.0
_OPEN: dict[threading.Thread, int] = {}
"""Threads of loops that are not closed, and the processes they were started in."""


class LoopThread:
    """A running loop; `close` runs at the latest when `owner` is dropped or the interpreter exits."""

    def __init__(self, owner: object, shut_down: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_debug(False)  # it is ours; development mode is for the program's own
        thread = threading.Thread(target=_run, args=(self._loop,), name="asrloop-client", daemon=True)
        thread.start()
        _OPEN[thread] = os.getpid()
        self.close = weakref.finalize(owner, _close, shut_down, self._loop, thread)

    def submit(self, make: Callable[[], Coroutine[Any, Any, T]]) -> concurrent.futures.Future[T]:
        """Run the coroutine that `make` returns. Raises ClientClosed."""
        refuse_after_fork()
        if not self.close.alive:
            raise ClientClosed("the client is closed. Make a new one.")
        return asyncio.run_coroutine_threadsafe(make(), self._loop)


def keep_large_blocks() -> None:
    """Let glibc reuse freed memory of up to 32 MiB, as it does after a block of 16 MiB was freed; other allocators ignore it.

    Else it returns the copies of a message to the kernel, and faulting their pages in again costs more than all else that the
    client does. The block is never touched and takes no memory. See "dynamic mmap threshold" in mallopt(3).
    """
    bytes(16 << 20)


def result_of(future: concurrent.futures.Future[T]) -> T:
    """Wait for it in a thread, and cancel it when the wait is interrupted. Raises Cancelled if it was cancelled."""
    try:
        return future.result()
    except concurrent.futures.CancelledError:
        raise Cancelled("the call was cancelled by the caller.") from None
    except BaseException:
        future.cancel()
        raise
    finally:
        # An error must not keep itself alive through this frame.
        del future


def refuse_after_fork() -> None:
    """Raise ClientForked in a child of a process that had a client open: its thread is not there, and gRPC would crash."""
    for process in list(_OPEN.values()):
        if process != os.getpid():
            raise ClientForked(
                f"a client of process {process} was open when it forked process {os.getpid()}, in which no client works. "
                "Start workers with the `spawn` method, or make the first client after the fork."
            )


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    while True:
        # asyncio lets SystemExit and KeyboardInterrupt out of a task leave the loop, after the task's future has them: the caller
        # gets them there, and all other calls go on.
        with contextlib.suppress(SystemExit, KeyboardInterrupt):
            loop.run_forever()
            break
    loop.close()


def _close(
    shut_down: Callable[[], Coroutine[Any, Any, None]], loop: asyncio.AbstractEventLoop, thread: threading.Thread
) -> None:
    if not thread.is_alive():  # in a forked child, where the sockets are the parent's
        return
    _OPEN.pop(thread, None)
    closing = asyncio.run_coroutine_threadsafe(shut_down(), loop)
    closing.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.stop))
    # The last reference may go in the loop's own thread, which cannot wait for itself.
    if threading.current_thread() is not thread:
        with contextlib.suppress(concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            closing.result(_CLOSE_SECONDS)
        thread.join(_CLOSE_SECONDS)
