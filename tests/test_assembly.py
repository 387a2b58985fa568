"""How many batches and encoders there are, by the settings and the cores."""

from dataclasses import replace

import pytest

from asrloop import assembly
from asrloop.assembly import INBOX_OF_BATCH, batches_for, encoders_for, inbox_for
from asrloop.config import EngineSettings, Lengths, Settings
from asrloop.engine.family import FamilyInfo

INFO = FamilyInfo(windows=Lengths(10.0, 15.0))
LARGE = replace(INFO, encodes_side_by_side=False)


@pytest.mark.parametrize(
    ("cores", "batches", "encoders"), [(1, 1, 1), (2, 1, 2), (4, 1, 4), (7, 1, 4), (8, 2, 8), (16, 4, 16), (64, 16, 64)]
)
def test_one_batch_for_every_four_cores(
    cores: int, batches: int, encoders: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "usable_cores", lambda: cores)
    assert (batches_for(INFO, Settings()), encoders_for(INFO, Settings())) == (batches, encoders)
    assert (batches_for(LARGE, Settings()), encoders_for(LARGE, Settings())) == (1, 1)


def test_settings_go_before_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "usable_cores", lambda: 16)
    one, many = Settings(engine=EngineSettings(batches=1)), Settings(engine=EngineSettings(batches=3, encoders=5))
    assert (batches_for(INFO, one), encoders_for(INFO, one)) == (1, 4)
    assert (batches_for(INFO, many), encoders_for(INFO, many)) == (3, 5)
    assert batches_for(LARGE, many) == 3


def test_the_inbox_grows_with_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "usable_cores", lambda: 16)
    assert (inbox_for(INFO, Settings()), inbox_for(LARGE, Settings())) == (4 * INBOX_OF_BATCH, INBOX_OF_BATCH)
    assert inbox_for(INFO, Settings(engine=EngineSettings(batches=2))) == 2 * INBOX_OF_BATCH
    assert inbox_for(INFO, Settings(engine=EngineSettings(inbox=5))) == 5
