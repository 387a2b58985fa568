"""Settings: the file and the defaults agree, the environment wins, and every mistake is one clear error."""

import re
from pathlib import Path

import pytest
import yaml

from asrloop import config, paths
from asrloop.config import ConfigError, Settings

ROOT = Path(__file__).resolve().parents[1]


def test_the_file_holds_exactly_the_defaults() -> None:
    assert yaml.safe_load((ROOT / "config.yaml").read_text()) == Settings().model_dump(mode="json")


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
        ("audio: {formats: [wav, doc]}", "audio.formats.1 = 'doc': Input should be 'wav', 'flac'"),
        ("audio: {formats: []}", "audio.formats = []: List should have at least 1 item"),
        ("live: {segment: [15, 10]}", "live.segment = [15, 10]: the first number of seconds is above the second: "),
        ("windows: {lengths: {moonshine: [9, 8]}}", "windows.lengths.moonshine = [9, 8]: the first number of seconds"),
        ("live: {segment: 10}", "live.segment = 10: give two numbers of seconds, such as [10.0, 15.0]"),
        ("engine: {slots: yes}", "engine.slots = true: no setting is true or false: see config.yaml for its values"),
        ("server: {servers: true}", "server.servers = true: no setting is true or false"),
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


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ASRLOOP_ENGINE__SLOT", "keys of engine are slots, inbox"),
        ("ASRLOOP_MOTOR__SLOTS", "sections are audio, engine"),
        ("ASRLOOP_ENGINE", "keys of engine are slots"),
        ("ASRLOOP_SLOTS", "sections are audio"),
        ("ASRLOOP_CONFIGURATION", "it must be ASRLOOP_CONFIG or"),
    ],
)
def test_a_variable_that_sets_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, says: str) -> None:
    monkeypatch.setenv(name, "3")
    with pytest.raises(ConfigError, match=rf"environment variable {name} matches no setting: .*{says}"):
        config.load()


@pytest.mark.parametrize(("name", "value"), [("ASRLOOP_ENGINE__SLOTS", "foo"), ("ASRLOOP_BENCHMARK__MIX", "foo")])
def test_a_wrong_value_in_the_environment_is_one_line(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as error:
        config.load()
    assert name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["ASRLOOP_LIVE__SEGMENT", "ASRLOOP_WINDOWS__LENGTHS"])
def test_what_is_no_json_in_the_environment_is_named_with_an_example(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("ASRLOOP_ENGINE__SLOTS", "3")
    monkeypatch.setenv(name, "foo")
    with pytest.raises(ConfigError) as error:
        config.load()
    example = """'[10.0, 15.0]'""" if name.endswith("SEGMENT") else """'{"moonshine": [10.0, 15.0]}'"""
    assert f"{name} = 'foo': not JSON: write it as in {example}" in str(error.value)


def test_the_file_in_the_working_directory_is_used_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.source().file == ROOT / "config.yaml"  # of the tree that the package runs from
    (tmp_path / "config.yaml").write_text("engine: {slots: 5}")
    monkeypatch.setenv("ASRLOOP_ENGINE__INBOX", "9")
    assert (config.load().engine.slots, config.load().engine.inbox) == (5, 9)
    assert str(config.source()) == f"{tmp_path / 'config.yaml'} and ASRLOOP_ENGINE__INBOX"


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "_TREE", tmp_path / "site-packages")
    assert config.load() == Settings()
    assert str(config.source()) == "the defaults (no config.yaml here)"


def test_the_gateways_variables_are_no_settings_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASRLOOP_GATEWAY_KEYS", "k" * 16)
    assert config.load() == Settings()
    assert "GATEWAY" not in str(config.source())
