"""Threads for what may block: reading files, and functions of the caller.

Not asyncio's executor: it takes no work once the main thread has ended, and the interpreter waits for its threads. These are
daemons.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from asrloop_client.errors import ClientClosed

T = TypeVar("T")

_MOST = 32
"""Threads at a time of one loop."""
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

    def run(context: contextvars.Context) -> None:
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

    thread = threading.Thread(target=run, args=(contextvars.copy_context(),), name="asrloop-client-work", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        if room is not None:
            room.release()
        raise ClientClosed(
            f"no thread can be started: {error}. The interpreter is ending, or the process has too many threads."
        ) from None
    return await done
