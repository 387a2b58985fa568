"""A language that is found in the first speech of a recording is that of the rest, which waits for it; one that is told stays."""

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from asrloop.audio import LongAudio
from asrloop.config import Lengths
from asrloop.engine.cutting import Cutting
from asrloop.engine.engine import Engine
from asrloop.engine.family import Emission, Ended, FamilyInfo
from asrloop.engine.options import Options
from asrloop.engine.request import Request
from asrloop.engine.scheduler import Scheduler
from asrloop.speech.windows import Cutter
from tests.conftest import eventually
from tests.engine.test_engine import WAIT, Caller, CountingFamily
from tests.engine.test_recordings import SLOTS, TWICE, EveryBlock, blocks, start
from tests.speech.test_windows import scripted

NOTHING_SAID = 7
"""A first sample of audio in which the family finds a language and no word."""


class Polyglot(CountingFamily):
    """Finds the language that belongs to the length of the audio where nobody names one."""

    info = FamilyInfo(Lengths(10, 15), languages=("en", "de", "zh"), detects_language=True)
    languages = {16_000: "de", 16_001: "zh"}  # noqa: RUF012 - constant

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []
        """The language of each utterance in the order of admission."""
        self.encoded: list[int] = []
        self.slots: dict[int, str] = {}

    def encode(self, samples: np.ndarray, options: Options, *, alone: bool = False) -> tuple[int, int]:  # type: ignore[type-arg]
        self.encoded.append(samples.size)
        return super().encode(samples, options, alone=alone)

    def admit(self, slot: int, encoded: tuple[int, int], options: Options) -> Emission:
        self.told.append(options.language)
        self.slots[slot] = options.language or self.languages.get(encoded[0], "en")
        return super().admit(slot, encoded, options)

    def step(self, slots: Sequence[int]) -> list[Emission]:
        found = super().step(slots)
        return [
            Emission((), (), done=True) if self.rows[slot][1] == NOTHING_SAID else one
            for slot, one in zip(slots, found, strict=True)
        ]

    def finish(self, slot: int, kept: Sequence[int]) -> Ended:
        super().finish(slot, kept)
        return Ended(self.slots[slot])


@pytest.fixture
def family() -> Polyglot:
    return Polyglot()


@pytest.fixture
def engine(family: Polyglot) -> Iterator[Engine]:
    cutting = Cutting(EveryBlock, whole_seconds=2.0, share=0.5, most=2)  # type: ignore[arg-type]  # a cutter by its methods
    engine = Engine(family, Scheduler(SLOTS, inbox=8, queue_timeout=WAIT, encoders=2), cutting=cutting)
    yield engine
    family.gate.set()
    engine.close()
    assert not any(family.taken.values()), "the family hears of the end of every row"
    assert not engine._work._held


def language_of(request: Request, family: Polyglot) -> str:
    (heard,) = request.transcripts(family)
    return heard.language


def test_the_language_of_the_first_speech_is_that_of_the_recording(engine: Engine, family: Polyglot) -> None:
    caller = Caller(engine)
    sound = ((16_001, NOTHING_SAID), (16_000, 2), (16_001, 1), (20_000, 1))
    request = start(caller, LongAudio(blocks(*sound)))
    caller.wait(1)
    assert family.told == ["", "", "de", "de"]
    assert language_of(request, family) == "de"
    assert request.transcripts(family)[0].text == "16000 16001 16001 20000"


def test_the_rest_waits_until_the_language_is_known(engine: Engine, family: Polyglot) -> None:
    caller = Caller(engine)
    family.gate.clear()
    start(caller, LongAudio(blocks((16_000, 1), *[(16_001, 1)] * 6)))
    assert eventually(lambda: engine.scheduler.running)
    assert not eventually(lambda: len(family.encoded) > 1, 0.2), "nothing else is encoded"
    other = caller.submit((8_000, 1))[0]
    assert eventually(lambda: family.encoded == [16_000, 8_000]), "others do not wait for it"
    family.gate.set()
    caller.wait(2)
    assert other.error is None
    assert family.told.count("de") == 6


def test_nothing_waits_where_the_language_is_told(engine: Engine, family: Polyglot) -> None:
    caller = Caller(engine)
    family.gate.clear()
    request = Request([LongAudio(blocks(*[(16_000, 1)] * 4))], on_done=caller._done, options=Options(language="zh"))
    engine.submit(request)
    assert eventually(lambda: len(family.encoded) == 4)
    family.gate.set()
    caller.wait(1)
    assert set(family.told) == {"zh"}
    assert language_of(request, family) == "zh"


@pytest.mark.parametrize("languages", [("nl",), ("nl", "fr")])
def test_nothing_waits_where_no_language_is_found(languages: tuple[str, ...]) -> None:
    family = CountingFamily()
    family.info = FamilyInfo(Lengths(10, 15), languages=languages)  # type: ignore[misc]  # of this one only
    cutting = Cutting(EveryBlock, whole_seconds=2.0)  # type: ignore[arg-type]  # as above
    engine = Engine(family, Scheduler(SLOTS, inbox=8, queue_timeout=WAIT), cutting=cutting)
    caller = Caller(engine)
    family.gate.clear()
    request = start(caller, LongAudio(blocks((16_000, 1), (16_000, 1))))
    assert eventually(lambda: len(engine.scheduler.running) + len(engine.scheduler.encoded) == 2)
    family.gate.set()
    caller.wait(1)
    engine.close()
    (heard,) = request.transcripts(family)
    assert heard.language == ("nl" if languages == ("nl",) else "")


def test_each_row_has_its_own_language(engine: Engine, family: Polyglot) -> None:
    caller = Caller(engine)
    engine.submit(caller.request((16_000, 1), (16_001, 1), (16_002, NOTHING_SAID)))
    (request,) = caller.wait(1)
    assert [heard.language for heard in request.transcripts(family)] == ["de", "zh", ""]


def test_parts_of_short_audio_wait_for_it_too(family: Polyglot) -> None:
    cutting = Cutting(lambda: Cutter(scripted, 10.0, 15.0), whole_seconds=15.0)
    engine = Engine(family, Scheduler(SLOTS, inbox=8, queue_timeout=WAIT, encoders=2), cutting=cutting)
    caller = Caller(engine)
    family.languages = dict.fromkeys(range(3 * 16_000), "zh")
    request = start(caller, TWICE)
    caller.wait(1)
    engine.close()
    assert family.told == ["", "zh"]
    assert language_of(request, family) == "zh"


def test_silence_has_no_language_though_the_model_found_one(family: Polyglot) -> None:
    engine = Engine(family, Scheduler(SLOTS, inbox=8, queue_timeout=WAIT), has_speech=lambda _: False)
    caller = Caller(engine)
    (request,) = caller.submit((16_000, 3))
    caller.wait(1)
    engine.close()
    assert language_of(request, family) == ""


@pytest.mark.parametrize("way", ["cancel", "deadline", "fail", "close"])
def test_what_waits_ends_with_its_request(engine: Engine, family: Polyglot, way: str) -> None:
    caller = Caller(engine)
    family.gate.clear()
    first = 13 if way == "fail" else 1
    deadline = engine.clock() + 0.3 if way == "deadline" else None
    audio = LongAudio(blocks((16_000, first), (16_001, 1), (16_002, 1)))
    request = Request([audio], on_done=caller._done, key="k" * 16, deadline=deadline)
    engine.submit(request)
    assert eventually(lambda: len(request.utterances) == 3)
    if way == "cancel":
        assert engine.cancel("k" * 16) == 1
    if way in ("cancel", "deadline"):
        caller.wait(1)
    if way == "close":
        threading.Timer(0.2, family.gate.set).start()
        engine.close()
    family.gate.set()
    caller.wait(1)
    assert request.error is not None
    assert eventually(lambda: engine.scheduler.is_idle and not engine._work._held)
