"""Threads for what may block: reading files, and functions of the caller.

Not asyncio's executor: it takes no work once the main thread has ended, and the interpreter waits for its threads. These are
daemons. They are used again, because glibc keeps what was freed apart for each thread: with new ones, copies of large messages
would take their memory several times.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from asrloop_client.errors import ClientClosed

T = TypeVar("T")

_MOST = 32
"""Threads at a time of one loop."""
_IDLE_SECONDS = 10.0
"""A thread without work ends after this time."""
_ROOMS: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = weakref.WeakKeyDictionary()


async def in_thread(work: Callable[..., T], *arguments: object, at_once: bool = False) -> T:
    """Return what `work` returns in a thread, in this task's context; waits while `_MOST` others run, unless `at_once`.

    Work goes on when the wait for it is cancelled, and counts until its end. Raises what it raises.
    """
    loop = asyncio.get_running_loop()
    room = None if at_once else _ROOMS.setdefault(loop, asyncio.Semaphore(_MOST))
    if room is not None:
        await room.acquire()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if room is not None:
            room.release()
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def run() -> None:
        result: Any = None
        failure: BaseException | None = None
        try:
            result = context.run(work, *arguments)
        except StopIteration as error:  # which no future takes
            failure = RuntimeError(repr(error))
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, result, failure)
        # An error must not keep itself alive through this frame.
        del failure

    context = contextvars.copy_context()
    try:
        _Worker.take(run)
    except RuntimeError as error:
        if room is not None:
            room.release()
        raise ClientClosed(
            f"no thread can be started: {error}. The interpreter is ending, or the process has too many threads."
        ) from None
    return await done


class _Worker(threading.Thread):
    """Does one piece of work after another."""

    idle: ClassVar[list[_Worker]] = []
    """The one that worked last is the last."""
    lock = threading.Lock()

    @classmethod
    def take(cls, work: Callable[[], None]) -> None:
        """Have an idle worker do `work`, or a new one. Raises RuntimeError when none can be started."""
        with cls.lock:
            worker = cls.idle.pop() if cls.idle else None
        if worker is None:
            worker = cls()
            worker.start()
        worker.work.put(work)

    def __init__(self) -> None:
        super().__init__(name="asrloop-client-work", daemon=True)
        self.work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def run(self) -> None:
        while True:
            try:
                self.work.get(timeout=_IDLE_SECONDS)()
            except queue.Empty:
                with _Worker.lock:
                    if self not in _Worker.idle:
                        continue  # taken in this moment
                    _Worker.idle.remove(self)
                return
            with _Worker.lock:
                _Worker.idle.append(self)


def _forget() -> None:
    """Forget the workers: a fork has none of them."""
    _Worker.idle, _Worker.lock = [], threading.Lock()


os.register_at_fork(after_in_child=_forget)
