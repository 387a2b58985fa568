"""Settings: the file and the defaults agree, the environment wins, and every mistake is one clear error."""

import re
from pathlib import Path

import pytest
import yaml

from asrloop import config
from asrloop.config import ConfigError, Settings

ROOT = Path(__file__).resolve().parents[1]


def test_the_file_holds_exactly_the_defaults() -> None:
    assert yaml.safe_load((ROOT / "config.yaml").read_text()) == Settings().model_dump()


def test_every_key_has_a_comment_above_it() -> None:
    lines = (ROOT / "config.yaml").read_text().splitlines()
    keys = [index for index, line in enumerate(lines) if re.match(r"  \w+:", line)]
    commented = [index for index in keys if lines[index - 1].startswith("  #") or index - 1 in keys]
    assert keys == commented


def test_the_environment_overrides_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASRLOOP_ENGINE__SLOTS", "3")
    settings = config.load()
    assert settings.engine.slots == 3
    assert settings.engine.inbox == Settings().engine.inbox


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("engine: {slots: many}", "engine.slots = 'many': Input should be a valid integer"),
        ("engine: {slots: 0}", "engine.slots = 0: Input should be greater than or equal to 1"),
        ("engine: {slot: 3}", "unknown key engine.slot"),
        ("motor: {}", "unknown key motor"),
        ("- a list", "top level must be sections"),
        ("a: [", "not readable as YAML"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError) as error:
        config.load(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_a_file_asked_for_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASRLOOP_CONFIG", str(tmp_path / "nowhere.yaml"))
    with pytest.raises(ConfigError, match=r"nowhere.yaml: no such configuration file"):
        config.load()


@pytest.mark.parametrize("name", ["ASRLOOP_ENGINE__SLOT", "ASRLOOP_MOTOR__SLOTS"])
def test_a_mistake_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "3")
    with pytest.raises(ConfigError, match=r"unknown (key|section)"):
        config.load()


def test_the_frontends_and_the_loops_batch_limits_agree() -> None:
    limits = {
        name: re.search(r"max_batch_size: (\d+)", (ROOT / "model_repository" / name / "config.pbtxt").read_text())[1]  # type: ignore[index]
        for name in ("asr_ensemble", "asr_file", "audio_frontend", "decoder_loop")
    }
    assert set(limits.values()) == {str(Settings().engine.inbox)}, "a full batch must fit into the inbox"
