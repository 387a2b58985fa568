"""The engine and its families in this process, without Triton: only this module and figures/engine.py know their insides."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asrloop import assembly
from asrloop.audio import Samples
from asrloop.config import Settings
from asrloop.engine.engine import Engine, EngineObserver
from asrloop.engine.family import Emission, Family
from asrloop.engine.options import DEFAULTS
from asrloop.engine.request import Request
from asrloop.engine.scheduler import Scheduler
from asrloop.families import offline, registry
from asrloop.speech.detector import open_detector
from asrloop.speech.gate import speech_gate
from asrloop.speech.windows import Cutter
from asrloop_bench.checkout import PREPARED

LIMIT_SECONDS = 600.0


def open_family(
    settings: Settings, *, slots: int | None = None, threads: int | None = None, directory: Path = PREPARED
) -> Family[Any]:
    """Open the prepared model in ``directory`` with other slots, or other threads of encoder and decoder, than the settings."""
    changes = {"slots": slots, "encoder_threads": threads, "decoder_threads": threads}
    engine = settings.engine.model_copy(update={name: value for name, value in changes.items() if value is not None})
    return registry.open_family(directory, settings.model_copy(update={"engine": engine}))


def encode(family: Family[Any], samples: Samples, *, alone: bool = False) -> Any:
    return family.encode(samples, DEFAULTS, alone=alone)


def admit(family: Family[Any], slot: int, encoded: Any) -> Emission:
    return family.admit(slot, encoded, DEFAULTS)


def decode(family: Family[Any], samples: Samples, *, alone: bool = False) -> offline.DecodedTokens:
    (decoded,) = offline.decode(family, [encode(family, samples, alone=alone)])
    return decoded


def cutter(settings: Settings) -> Cutter:
    info = registry.info_in(PREPARED, settings)
    return assembly.cutting_for(info, settings, open_detector(PREPARED)).cutter()


@contextmanager
def engine(
    family: Family[Any],
    settings: Settings,
    *,
    inbox: int | None = None,
    observer: EngineObserver | None = None,
    listens: bool = False,
) -> Iterator[Engine]:
    """Run an engine without cutting; where it ``listens``, audio without speech gets no text, as in decoder_loop."""
    limits = settings.engine
    rows = inbox or assembly.inbox_for(family.info, settings)
    scheduler = Scheduler(limits.slots, rows, LIMIT_SECONDS, assembly.encoders_for(family.info, settings))
    has_speech = speech_gate(open_detector(PREPARED), settings) if listens else None
    running = Engine(family, scheduler, observer, has_speech=has_speech)
    try:
        yield running
    finally:
        running.close()


class Asked:
    """A request of one or more clips f32 [N], 16 kHz, to an engine of this process."""

    def __init__(self, engine: Engine, clips: Sequence[Samples]) -> None:
        self._ended: Future[None] = Future()
        self.request = Request(clips, on_done=lambda _: self._ended.set_result(None))
        engine.submit(self.request)

    def answer(self) -> Request:
        """Wait for the end of the request. Raises TimeoutError."""
        self._ended.result(LIMIT_SECONDS)
        return self.request
