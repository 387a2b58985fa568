"""What a recognizer can do with live audio: one that is damaged fails the streams that name it, no others."""

import json
from pathlib import Path

import pytest

from asrloop import config
from asrloop.assembly import live_info
from asrloop.errors import DecodeFailed, InvalidOption


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("family.json", "mine.json"):
        (tmp_path / name).write_text(json.dumps({"family": "whisper"}), encoding="utf-8")
    return tmp_path


def test_each_has_a_description(folder: Path) -> None:
    (folder / "mine.json").write_text(json.dumps({"family": "whisper", "languages": ["de"]}), encoding="utf-8")
    assert [live_info(folder, config.load(), name).languages for name in ("", "mine")] == [("en",), ("de",)]


@pytest.mark.parametrize("content", ["{", "[]", '{"family": "wisper"}'])
def test_a_damaged_one_fails_who_names_it(content: str, folder: Path) -> None:
    """An error that is no RequestError would fail all that Triton hands over together."""
    (folder / "mine.json").write_text(content, encoding="utf-8")
    with pytest.raises(DecodeFailed, match=r"model mine: .*mine.json"):
        live_info(folder, config.load(), "mine")
    live_info(folder, config.load())


def test_one_that_does_not_fit_the_settings_says_so(folder: Path) -> None:
    settings = config.Settings.model_validate({"live": {"segment": [10.0, 29.0]}, "windows": {"lengths": {}}})
    with pytest.raises(DecodeFailed, match=r"model mine: live.segment ends at 29 s, the model's windows at 28 s"):
        live_info(folder, settings, "mine")
    with pytest.raises(ValueError, match="^live.segment ends at 29 s"):
        live_info(folder, settings)


@pytest.mark.parametrize("name", ["nobody", "../mine", "family", 5, True, "MINE"])
def test_a_name_that_none_has_is_an_option(name: object, folder: Path) -> None:
    with pytest.raises(InvalidOption, match="model"):
        live_info(folder, config.load(), name)
