"""Decodes files on a few threads (libsndfile and soxr let go of the interpreter): bounded, and each request answered once."""

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from asrloop.audio.files import from_file
from asrloop.audio.pcm import Samples
from asrloop.config import AudioSettings
from asrloop.cores import usable_cores
from asrloop.engine.errors import DeadlineExceeded, DecodeFailed, EngineClosed, InvalidAudio, Overloaded, RequestError

OnDone = Callable[[list[Samples] | RequestError], None]


class FileDecoder:
    """``submit`` returns at once; ``on_done`` is called exactly once, on a thread of the decoder."""

    def __init__(
        self,
        settings: AudioSettings,
        clock: Callable[[], float] = time.monotonic,
        on_bug: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_bug`` is called when an ``on_done`` raised: somebody waits for an answer that will not come."""
        self.clock = clock
        self._on_bug = on_bug
        self._settings = settings
        self._lock = threading.Lock()
        self._taken = 0
        self._closing = False
        self._threads = ThreadPoolExecutor(usable_cores(), thread_name_prefix="asrloop-decode")

    def submit(self, files: Sequence[bytes], deadline: float | None, on_done: OnDone) -> None:
        """Decode all files of a request; ``deadline`` is a moment on ``clock``, in seconds.

        Raises Overloaded when as many requests as ``audio.decode_inbox`` are taken already; then ``on_done`` is not called.
        """
        with self._lock:
            if self._taken >= self._settings.decode_inbox:
                raise Overloaded(f"{self._taken} files are being decoded or wait (audio.decode_inbox); retry later")
            self._taken += 1
        self._threads.submit(self._work, files, deadline, on_done)

    def close(self) -> None:
        """Answer what waits with EngineClosed and end the threads."""
        self._closing = True
        self._threads.shutdown(wait=True)

    def _work(self, files: Sequence[bytes], deadline: float | None, on_done: OnDone) -> None:
        try:
            on_done(self._decoded(files, deadline))
        except Exception:
            traceback.print_exc()
            self._on_bug()
        finally:
            with self._lock:
                self._taken -= 1

    def _decoded(self, files: Sequence[bytes], deadline: float | None) -> list[Samples] | RequestError:
        limit, started = self._settings.decode_seconds, self.clock()

        def check() -> None:
            """Between blocks."""
            now = self.clock()
            if self._closing:
                raise EngineClosed("the server is closing: send the request again")
            if deadline is not None and now > deadline:
                raise DeadlineExceeded("the request's timeout passed before its file was decoded; give it more time")
            if now - started > limit:
                raise InvalidAudio(
                    f"AUDIO takes over {limit:g} s to decode (audio.decode_seconds); send it as 16 kHz mono"
                )

        try:
            check()
            return [from_file(file, self._settings.max_seconds, check) for file in files]
        except RequestError as error:
            return error
        except Exception as error:  # a bug of ours concerns this file alone
            traceback.print_exc()
            return DecodeFailed(f"decoding the file failed: {error!r}")
