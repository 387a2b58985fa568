"""Which recognizer a caller's model names, whatever the servers tell, and when."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from asrloop_client import AccessDenied, AsrError, ServerGone
from asrloop_gateway.errors import ApiError
from asrloop_gateway.recognizers import Recognizers


class Servers:
    """A client of servers that tell their recognizers when they may, or raise the error."""

    def __init__(self, *told: list[str] | dict[str, list[str]] | AsrError) -> None:
        self.may_tell = asyncio.Event()
        self.told, self.asked = list(told), 0

    async def not_loaded(self) -> dict[str, list[str]]:
        self.asked += 1
        await self.may_tell.wait()
        told = self.told.pop(0) if len(self.told) > 1 else self.told[0]
        if isinstance(told, AsrError):
            raise told
        return {name: [] for name in told} if isinstance(told, list) else told


def of(servers: Servers, given: tuple[str, ...] = (), **aliases: str) -> Recognizers:
    return Recognizers(servers, given, aliases)  # type: ignore[arg-type]  # of what is used here


def test_all_first_requests_wait_for_the_answer() -> None:
    """The default would answer those that do not: text of another model, and nobody would see why."""

    async def run() -> tuple[Any, int]:
        servers = Servers(["", "whisper"])
        recognizers = of(servers)
        named = asyncio.gather(*(recognizers.named("whisper") for _ in range(3)))
        await asyncio.sleep(0.01)
        servers.may_tell.set()
        return await named, servers.asked

    assert asyncio.run(run()) == (["whisper"] * 3, 1)


def test_a_caller_who_leaves_does_not_take_the_answer_along() -> None:
    async def run() -> str:
        servers = Servers(["", "whisper"])
        recognizers = of(servers)
        first = asyncio.ensure_future(recognizers.named("whisper"))
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        servers.may_tell.set()
        return await recognizers.named("whisper")

    assert asyncio.run(run()) == "whisper"


def test_servers_that_were_away_are_soon_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asrloop_gateway.recognizers._SECONDS_UNTOLD", 0.0)

    async def run() -> list[str]:
        servers = Servers(ServerGone("gone"), ["", "whisper"])
        servers.may_tell.set()
        recognizers = of(servers)
        return [await recognizers.named("whisper") for _ in range(2)]

    assert asyncio.run(run()) == ["", "whisper"]


def test_a_closed_list_is_the_given_one_and_not_asked_for_each_request() -> None:
    async def run() -> tuple[list[str], int]:
        servers = Servers(AccessDenied("closed"))
        servers.may_tell.set()
        recognizers = of(servers, ("whisper",))
        return [await recognizers.named(name) for name in ("whisper", "whisper-1")], servers.asked

    assert asyncio.run(run()) == (["whisper", ""], 1)


def test_an_alias_of_nobody_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> list[str]:
        servers = Servers(["", "whisper"])
        servers.may_tell.set()
        recognizers = of(servers, whisper_1="wisper", tts="asr_file")
        return [await recognizers.named(name) for name in ("whisper_1", "whisper_1", "tts", "gpt-4o-transcribe")]

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(run()) == [""] * 4
    assert [record.getMessage() for record in caplog.records] == [
        "model_aliases: no server has the recognizer 'wisper' that 'whisper_1' means: the default answers (there are: whisper)"
    ]


@pytest.mark.parametrize("name", ["whisper", "whisper-1"])
def test_a_model_that_is_not_loaded_is_not_the_default(name: str) -> None:
    """Text of another model came, and nobody saw why."""
    told = {"": [], "whisper": ["whisper_loop"], "tiny": ["tiny_file"]}

    async def ask(model: str, live: bool) -> str:
        servers = Servers(told)
        servers.may_tell.set()
        return await Recognizers(servers, [], {"whisper-1": "whisper"}).named(model, live=live)  # type: ignore[arg-type]

    for live in (True, False):
        with pytest.raises(ApiError, match="is not loaded: the servers have no whisper_loop ready") as refused:
            asyncio.run(ask(name, live))
        assert (refused.value.status, refused.value.code, refused.value.param) == (503, "model_not_loaded", "model")
    with pytest.raises(ApiError, match="no tiny_file ready"):
        asyncio.run(ask("tiny", False))
    assert asyncio.run(ask("tiny", True)) == "tiny"
