"""Puts the engine and the live streams together: the one place where families, scheduler, speech gate and cutting meet."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from asrloop.config import Settings
from asrloop.cores import usable_cores
from asrloop.engine.cutting import Cutting
from asrloop.engine.engine import Engine, EngineObserver, OpenDiarizer
from asrloop.engine.family import FamilyInfo
from asrloop.engine.scheduler import Scheduler
from asrloop.engine.turns import Turns
from asrloop.errors import DecodeFailed, InvalidOption
from asrloop.families.registry import MOST_THREADS, info_in, open_family
from asrloop.live.asking import Asking
from asrloop.live.calls import Loops
from asrloop.live.metrics import LiveMetrics
from asrloop.live.segmenter import Segmenter
from asrloop.live.streams import Streams
from asrloop.live.voice import Voice
from asrloop.onnx_files.sessions import Graphs
from asrloop.recognizer import DEFAULT, recognizer
from asrloop.speakers.diarizer import Diarizer
from asrloop.speakers.networks import OnnxNetworks
from asrloop.speech.detector import Detector, open_detector
from asrloop.speech.gate import speech_gate
from asrloop.speech.silence import quiet_steps
from asrloop.speech.windows import Cutter
from asrloop.turns.detector import TurnDetector

CORES_OF_BATCH = 4
"""Where the settings leave the number of batches to the cores: to step one keeps a thread busy with so many."""

INBOX_OF_BATCH = 64
"""Where the settings leave the inbox to the batches: as many rows as one request may have (max_batch_size)."""


def engine_for(
    directory: Path,
    settings: Settings,
    *,
    graphs: Graphs | None = None,
    observer: EngineObserver | None = None,
    on_bug: Callable[[], None] | None = None,
) -> Engine:
    """Open the prepared model in ``directory``, ``decoder_loop/1`` of a repository, and start an engine with it.

    ``graphs`` may have an ``encoder`` and a ``decoder`` that run elsewhere. ``on_bug`` is called when the engine ended by its own
    bug. Raises OSError and ValueError that say how to fix it.
    """
    family, detector = open_family(directory, settings, graphs), open_detector(directory)
    scheduler = Scheduler(
        settings.engine.slots,
        inbox_for(family.info, settings),
        settings.engine.queue_timeout_seconds,
        encoders_for(family.info, settings),
        batches_for(family.info, settings),
    )
    return Engine(
        family,
        scheduler,
        observer,
        on_bug=on_bug,
        has_speech=speech_gate(detector, settings),
        cutting=cutting_for(family.info, settings, detector),
        find_quiet=partial(quiet_steps, detector=detector),
        diarizer=_diarizer(OnnxNetworks(directory)),
    )


def _diarizer(networks: OnnxNetworks) -> OpenDiarizer:
    """Return what makes a diarizer. Its files are looked for when somebody asks: without them all else is served."""

    def opened(most: int | None) -> Diarizer:
        networks.check()
        return Diarizer(networks, most)

    return opened


def batches_for(info: FamilyInfo, settings: Settings) -> int:
    """Return how many batches run side by side."""
    usual = max(1, usable_cores() // CORES_OF_BATCH) if info.encodes_side_by_side else 1
    return settings.engine.batches or usual


def inbox_for(info: FamilyInfo, settings: Settings) -> int:
    """Return how many rows of requests may wait."""
    return settings.engine.inbox or INBOX_OF_BATCH * batches_for(info, settings)


def encoders_for(info: FamilyInfo, settings: Settings) -> int:
    """Return how many utterances are encoded side by side."""
    usual = min(usable_cores(), MOST_THREADS * batches_for(info, settings)) if info.encodes_side_by_side else 1
    return settings.engine.encoders or usual


def cutting_for(info: FamilyInfo, settings: Settings, detector: Detector) -> Cutting:
    """Return how recordings are cut for a family."""
    target, longest = info.windows
    windows = settings.windows
    return Cutting(lambda: Cutter(detector, target, longest), longest, windows.share, windows.recordings)


def live_streams_for(directory: Path, settings: Settings, loops: Loops, metrics: LiveMetrics) -> Streams:
    """Return the streams of live audio. ``directory`` is ``asr_stream/1``. Raises OSError where it lacks a file."""
    detector, live = open_detector(directory), settings.live
    asking = Asking(TurnDetector(directory), max(1, usable_cores() // 2), live.turn_seconds, metrics)

    def segmenter(turns: Turns) -> Segmenter:
        return Segmenter(Voice(detector), *live.segment, live.interval_seconds, turns)

    return Streams(segmenter, loops, asking, live, metrics)


def live_info(directory: Path, settings: Settings, name: object = "") -> FamilyInfo:
    """Return what the recognizer ``name`` can do with live audio, from ``directory``, ``asr_stream/1``.

    Raises InvalidOption for a name that none has, and DecodeFailed for one whose description is damaged or does not fit the
    settings. Of the default these are OSError and ValueError: the server does not start.
    """
    try:
        description = recognizer(str(name)).description
    except ValueError as error:
        raise InvalidOption(f"model: {error}") from None
    if name and not (directory / description).is_file():
        there = ", ".join(sorted(path.stem for path in directory.glob("*.json") if path.name != DEFAULT.description))
        raise InvalidOption(
            f"model is {name!r:.80}: there is no such recognizer; leave it out for the default, "
            + (f"or choose of {there}" if there else "the only one")
        )
    try:
        return _live_info(directory, settings, description)
    except (OSError, ValueError) as error:
        if not name:
            raise
        raise DecodeFailed(f"model {name}: {error}") from error


def _live_info(directory: Path, settings: Settings, description: str) -> FamilyInfo:
    info, longest = info_in(directory, settings, description), settings.live.segment.longest
    if longest > info.windows.longest:
        raise ValueError(
            f"live.segment ends at {longest:g} s, the model's windows at {info.windows.longest:g} s: a longer segment "
            "would be cut and its words said again; lower live.segment (config.yaml), or raise windows.lengths"
        )
    return info
