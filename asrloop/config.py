"""Typed settings from config.yaml; the environment overrides the file. Problems are ConfigErrors that say how to fix them."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from asrloop.cores import SERVERS_VARIABLE
from asrloop.formats import FORMATS, Format
from asrloop.paths import beside_us

ENVIRONMENT_PREFIX = "ASRLOOP_"
FILE_VARIABLE = "ASRLOOP_CONFIG"
"""Environment variable with the path of the configuration file."""

NOT_SETTINGS = (FILE_VARIABLE, "ASRLOOP_RESTARTS", SERVERS_VARIABLE)
"""Variables with the prefix that are not settings; `asrloop serve` sets the others for its servers."""

NOT_OURS = "ASRLOOP_GATEWAY_"
"""Prefix of the gateway's variables, which may be in the same environment."""

MOST_SERVERS = 64


def _checked_servers(value: object) -> object:
    """Return a number of servers, or auto. Raises ValueError."""
    text = str(value)
    if text == "auto":
        return text
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MOST_SERVERS):
        raise ValueError(f"give a whole number from 1 to {MOST_SERVERS}, or auto for one for every 16 cores")
    return int(text)


NumberOfServers = Annotated[int | Literal["auto"], BeforeValidator(_checked_servers)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Threads = Annotated[int, Field(ge=0, le=1024)]


class ConfigError(ValueError):
    """A setting that cannot be used; the message names the key, the value and how to fix it."""


class Lengths(NamedTuple):
    """Lengths of a window, in seconds."""

    target: Annotated[float, Field(ge=4, le=600)]
    longest: Annotated[float, Field(ge=4, le=600)]


def _pair(value: object) -> object:
    """Return a list of two. Raises ValueError."""
    if not (isinstance(value, list | tuple) and len(value) == 2):
        raise ValueError("give two numbers of seconds, such as [10.0, 15.0]")
    return value


def _in_order(lengths: Lengths) -> Lengths:
    if lengths.target > lengths.longest:
        raise ValueError("the first number of seconds is above the second: give the smaller one first")
    return lengths


CheckedLengths = Annotated[Lengths, BeforeValidator(_pair), AfterValidator(_in_order)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AudioSettings(_Section):
    """Limits of accepted audio."""

    max_seconds: Annotated[float, Field(gt=0, le=86_400)] = 14_400.0
    max_pcm_seconds: Annotated[float, Field(gt=0, le=86_400)] = 3_600.0
    decode_inbox: Annotated[int, Field(ge=1, le=100_000)] = 64
    decode_seconds: Seconds = 20.0
    formats: Annotated[list[Format], Field(min_length=1)] = [*FORMATS]
    speech_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.35


class EngineSettings(_Section):
    """Sizes and timeouts of the decode engine."""

    slots: Annotated[int, Field(ge=1, le=256)] = 16
    inbox: Annotated[int, Field(ge=0, le=100_000)] = 0
    queue_timeout_seconds: Seconds = 30.0
    batches: Annotated[int, Field(ge=0, le=64)] = 0
    encoders: Threads = 0
    encoder_threads: Threads = 0
    decoder_threads: Threads = 0


class WindowSettings(_Section):
    """Cutting of recordings that are too long for one window."""

    lengths: Annotated[dict[str, CheckedLengths], Field(examples=[{"moonshine": [10.0, 15.0]}])] = {}
    """By family, in place of the family's own."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    recordings: Annotated[int, Field(ge=1, le=1000)] = 16


class LiveSettings(_Section):
    """Streams of live audio."""

    streams: Annotated[int, Field(ge=1, le=10_000)] = 64
    interval_seconds: Annotated[float, Field(ge=0.1, le=60)] = 0.4
    segment: CheckedLengths = Lengths(10.0, 15.0)
    turn_seconds: Seconds = 0.3
    idle_seconds: Seconds = 30.0
    backlog_seconds: Seconds = 1200.0


class ServerSettings(_Section):
    """Addresses, timeouts and traces of tritonserver."""

    host: str = "127.0.0.1"
    servers: NumberOfServers = 1
    http_port: Port = 8000
    grpc_port: Port = 8001
    metrics_port: Port = 8002
    log_level: Literal["error", "warning", "info", "verbose"] = "warning"
    start_timeout_seconds: Seconds = 120.0
    stop_timeout_seconds: Seconds = 15.0
    trace_url: Annotated[str, Field(pattern=r"^(https?://\S+)?$")] = ""
    trace_rate: Annotated[int, Field(ge=1)] = 1000


class SupervisorSettings(_Section):
    """Checks and restarts of the server by `asrloop serve`."""

    canary_interval_seconds: Seconds = 10.0
    canary_timeout_seconds: Seconds = 10.0
    max_restarts: Annotated[int, Field(ge=0, le=1000)] = 5
    restart_window_seconds: Seconds = 300.0


class BenchmarkSettings(_Section):
    """Loads of `make sweep` and `make bench`."""

    clip_seconds: list[Annotated[float, Field(gt=0, le=600)]] = [1.0, 3.0, 10.0, 30.0]
    mix: list[Annotated[int, Field(ge=0, le=100)]] = [4, 4, 2, 1]
    clips: Annotated[int, Field(ge=1, le=100)] = 4
    concurrencies: list[Annotated[int, Field(ge=1, le=1024)]] = [1, 4, 16]
    rate_shares: list[Annotated[float, Field(gt=0, le=2)]] = [0.3, 0.6, 0.9]
    point_seconds: Seconds = 8.0
    max_minutes: Annotated[float, Field(gt=0, le=600)] = 12.0


class Settings(BaseSettings):
    """All settings. Use :func:`load`, which turns every problem into a :class:`ConfigError`."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    audio: AudioSettings = AudioSettings()
    engine: EngineSettings = EngineSettings()
    windows: WindowSettings = WindowSettings()
    live: LiveSettings = LiveSettings()
    server: ServerSettings = ServerSettings()
    supervisor: SupervisorSettings = SupervisorSettings()
    benchmark: BenchmarkSettings = BenchmarkSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use the environment, then the file's content from :func:`load`; no .env files, no secrets."""
        return env_settings, init_settings


class Source(NamedTuple):
    """Origin of the settings."""

    file: Path | None
    """Configuration file; None for the defaults, which equal the values of the project's file."""

    variables: tuple[str, ...]
    """Environment variables that override the file."""

    def __str__(self) -> str:
        file = "the defaults (no config.yaml here)" if self.file is None else str(self.file)
        return " and ".join([file, *self.variables])


def source(path: Path | None = None) -> Source:
    """Find the settings: ``path``, else the file in ASRLOOP_CONFIG, else config.yaml in the working directory or project.

    Raises ConfigError for a named file that does not exist and for ASRLOOP_* variables that match no setting.
    """
    named = path or (Path(os.environ[FILE_VARIABLE]) if os.environ.get(FILE_VARIABLE) else None)
    if named is not None and not named.is_file():
        raise ConfigError(f"{named}: no such configuration file: give the path of an existing one")
    return Source(named or beside_us("config.yaml"), _variables())


def load(path: Path | None = None) -> Settings:
    """Load the settings from :func:`source`; the environment overrides the file. Raises ConfigError."""
    found = source(path)
    content = {} if found.file is None else _read(found.file)
    try:
        return Settings(**content)
    except ValidationError as error:
        problems = "; ".join(_describe(problem) for problem in error.errors())
        raise ConfigError(f"{found}: {problems}") from None
    except SettingsError as error:
        raise ConfigError(f"{found}: {_not_json(found.variables) or error}") from None


def server_settings(settings: Settings, given: Mapping[str, Any]) -> ServerSettings:
    """Return the server's settings with those that are ``given`` as options, None for none. Raises ConfigError."""
    options = {name: value for name, value in given.items() if value is not None}
    try:
        return ServerSettings.model_validate(settings.server.model_dump() | options)
    except ValidationError as error:
        raise ConfigError("; ".join(_describe(problem) for problem in error.errors())) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(
            f"{path}: the top level must be sections ({', '.join(Settings.model_fields)}), not {content!r}"
        )
    for section, keys in content.items():
        for key, value in keys.items() if isinstance(keys, dict) else ():
            if isinstance(value, bool):  # pydantic takes it for 0 or 1
                raise ConfigError(
                    f"{path}: {section}.{key} = {str(value).lower()}: no setting is true or false: see config.yaml for its values"
                )
    return content


def _variables() -> tuple[str, ...]:
    """Return the variables that set something. Raises ConfigError for others, which pydantic-settings would ignore."""
    names = sorted(
        name
        for name in os.environ
        if name.startswith(ENVIRONMENT_PREFIX) and not name.startswith(NOT_OURS) and name not in NOT_SETTINGS
    )
    for name in names:
        section, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        field = Settings.model_fields.get(section)
        keys = field.annotation.model_fields if field is not None and isinstance(field.annotation, type) else {}
        if key not in keys:
            raise ConfigError(
                f"environment variable {name} matches no setting: it must be {FILE_VARIABLE} or "
                f"{ENVIRONMENT_PREFIX}<SECTION>__<KEY>, "
                + (
                    f"keys of {section} are {', '.join(keys)}"
                    if keys
                    else f"sections are {', '.join(Settings.model_fields)}"
                )
            )
    return tuple(names)


def _not_json(variables: tuple[str, ...]) -> str:
    """Name the first of the variables that should be JSON and is not, which pydantic-settings does not say; "" for none."""
    for name in variables:
        section, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        kind = type(Settings.model_fields[section].default)
        field = kind.model_fields[key]
        if not isinstance(field.default, list | tuple | dict):
            continue
        try:
            json.loads(os.environ[name])
        except ValueError:
            example = json.dumps((field.examples or [field.default])[0])
            return f"{name} = {os.environ[name]!r}: not JSON: write it as in '{example}'"
    return ""


def _describe(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key}: remove it, or see config.yaml for the known keys"
    return f"{key} = {problem['input']!r}: {problem['msg'].removeprefix('Value error, ')}"
