"""Typed settings from config.yaml, with the environment above the file. Every problem is one ConfigError that names its mend."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

ENVIRONMENT_PREFIX = "ASRLOOP_"
DEFAULT_FILE = Path(__file__).resolve().parents[1] / "config.yaml"

Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Threads = Annotated[int, Field(ge=0, le=1024)]


class ConfigError(ValueError):
    """A setting that cannot be used; the message names the key, the value and the mend."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AudioSettings(_Section):
    """What audio is accepted."""

    max_seconds: Annotated[float, Field(gt=0, le=600)] = 30.0


class EngineSettings(_Section):
    """Size and patience of the decode engine."""

    slots: Annotated[int, Field(ge=1, le=256)] = 16
    inbox: Annotated[int, Field(ge=1, le=100_000)] = 64
    queue_timeout_seconds: Seconds = 30.0
    encoder_threads: Threads = 0
    decoder_threads: Threads = 0


class ServerSettings(_Section):
    """Where tritonserver listens and how long it is waited for."""

    host: str = "127.0.0.1"
    http_port: Port = 8000
    grpc_port: Port = 8001
    metrics_port: Port = 8002
    log_level: Literal["error", "warning", "info", "verbose"] = "warning"
    start_timeout_seconds: Seconds = 120.0
    stop_timeout_seconds: Seconds = 15.0


class BenchmarkSettings(_Section):
    """What `make sweep` and `make bench` measure."""

    clip_seconds: list[Annotated[float, Field(gt=0, le=600)]] = [1.0, 3.0, 10.0, 30.0]
    mix: list[Annotated[int, Field(ge=0, le=100)]] = [4, 4, 2, 1]
    clips: Annotated[int, Field(ge=1, le=100)] = 4
    concurrencies: list[Annotated[int, Field(ge=1, le=1024)]] = [1, 4, 16]
    rate_shares: list[Annotated[float, Field(gt=0, le=2)]] = [0.3, 0.6, 0.9]
    point_seconds: Seconds = 8.0
    max_minutes: Annotated[float, Field(gt=0, le=600)] = 12.0


class Settings(BaseSettings):
    """All settings. Use :func:`load`; it turns every problem into a :class:`ConfigError`."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    audio: AudioSettings = AudioSettings()
    engine: EngineSettings = EngineSettings()
    server: ServerSettings = ServerSettings()
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
        """The environment first, then what :func:`load` read from the file; no .env files, no secrets."""
        return env_settings, init_settings


def load(path: Path | None = None) -> Settings:
    """Read ``path``, or the file that ASRLOOP_CONFIG names, or the project's config.yaml.

    A package installed without the project's tree has no config.yaml beside it; then the defaults hold, which are the
    same values. A file that was asked for by name must exist. Raises ConfigError.
    """
    named = path or (Path(os.environ["ASRLOOP_CONFIG"]) if os.environ.get("ASRLOOP_CONFIG") else None)
    source = named or DEFAULT_FILE
    _check_environment()
    if source.is_file():
        content = _read(source)
    elif named is None:
        content = {}
    else:
        raise ConfigError(
            f"{source}: no such configuration file; give the path of an existing one, or none for the project's config.yaml"
        )
    try:
        return Settings(**content)
    except ValidationError as error:
        problems = "; ".join(_describe(problem) for problem in error.errors())
        raise ConfigError(f"{source} with the environment's {ENVIRONMENT_PREFIX}*: {problems}") from None


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
    return content


def _check_environment() -> None:
    """Refuse ASRLOOP_<SECTION>__<KEY> of an unknown section: pydantic-settings would pass over it in silence."""
    for name in os.environ:
        section, delimiter, _ = name.removeprefix(ENVIRONMENT_PREFIX).partition("__")
        if name.startswith(ENVIRONMENT_PREFIX) and delimiter and section.lower() not in Settings.model_fields:
            raise ConfigError(
                f"environment variable {name}: unknown section; sections are {', '.join(Settings.model_fields)}"
            )


def _describe(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key}: remove it, or see config.yaml for the known keys"
    return f"{key} = {problem['input']!r}: {problem['msg']}"
