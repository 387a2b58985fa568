"""What is under way in the models for the streams: decodings, which can be ended early, and questions to the turn detector."""

import secrets
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from asrloop.audio import Samples
from asrloop.engine.options import Options
from asrloop.errors import DecodeFailed, Overloaded, RequestError
from asrloop.live.asking import Asking
from asrloop.live.decodings import Decoding, Hypothesis

PAUSE_SECONDS = 0.2
"""How long a decoding waits before its error where the engine is too full for it."""


class Loops(NamedTuple):
    """The loops that decode. All block."""

    decode: Callable[[Decoding, Options, str], Hypothesis]
    """Decodes, with a key by which it can be ended. Raises RequestError."""

    cancel: Callable[[Options, str], None]
    """Ends the decoding with that key."""

    check: Callable[[Options], None] = lambda _: None
    """Raises the RequestError that ends a stream before it begins."""


@dataclass(frozen=True)
class Decoded:
    """The end of a decoding."""

    decoding: Decoding
    found: Hypothesis | RequestError
    seconds: float
    """How long it took."""


class Running:
    """A decoding that is under way."""

    def __init__(self, decoding: Decoding, options: Options) -> None:
        self.decoding = decoding
        self.options = options
        self.key = secrets.token_hex(16)
        self.began = time.monotonic()


class Calls:
    """Makes the calls in threads of its own, at most ``at_once`` at a time."""

    def __init__(self, loops: Loops, asking: Asking, at_once: int) -> None:
        self._loops = loops
        self._asking = asking
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="asrloop-live-calls")
        self._closed = threading.Event()

    def check(self, options: Options, refuse: Callable[[RequestError], None]) -> None:
        """Ask whether there is a loop for a stream; ``refuse`` is called where there is none, by another thread."""

        def work() -> None:
            try:
                self._loops.check(options)
            except RequestError as error:
                refuse(error)

        self._submit(work)

    def decode(self, decoding: Decoding, options: Options, take: Callable[[Decoded], None]) -> Running:
        """Begin a decoding; ``take`` is called with its end, by another thread."""
        running = Running(decoding, options)

        def work() -> None:
            found = self._found(running)
            take(Decoded(decoding, found, time.monotonic() - running.began))

        self._submit(work)
        return running

    def cancel(self, running: Running) -> None:
        """End a decoding early. It may end well all the same."""

        def work() -> None:
            with suppress(RequestError):  # then it is worked on for nothing
                self._loops.cancel(running.options, running.key)

        self._submit(work)

    def get_ready(self) -> None:
        """Have the turn detector opened."""
        self._asking.get_ready()

    def judge(self, samples: Samples, take: Callable[[float], None]) -> None:
        """Ask the turn detector; ``take`` is called with its answer, by another thread."""
        answer = self._asking.begin(samples)
        self._submit(lambda: take(answer()))

    def close(self) -> None:
        """Wait for what is under way, and drop what is not."""
        self._closed.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._asking.close()

    def _submit(self, work: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # closed; the streams were told
            self._threads.submit(work)

    def _found(self, running: Running) -> Hypothesis | RequestError:
        try:
            return self._loops.decode(running.decoding, running.options, running.key)
        except Overloaded as error:
            self._closed.wait(PAUSE_SECONDS)
            return error
        except RequestError as error:
            return error
        except Exception as error:  # a bug of ours concerns this stream alone
            traceback.print_exc()
            return DecodeFailed(f"the stream failed: {error!r}")
