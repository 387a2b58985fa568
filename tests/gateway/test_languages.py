"""Languages, translations and prompts before servers whose model takes some of it: what reaches them, and what callers are told."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from asrloop_client import AsyncStream, InvalidOption, Overloaded, Segment, Transcript
from asrloop_gateway.app import make_app
from asrloop_gateway.asked import Asked
from asrloop_gateway.errors import overloaded
from asrloop_gateway.gateway import Gateway
from asrloop_gateway.languages import name_of
from asrloop_gateway.settings import Settings
from starlette.testclient import TestClient

FILE = {"file": ("a.wav", b"RIFF of somebody")}
PROMPT = "Names: Szczecin, Fayle."
TERMS = ("Names", "Szczecin", "Fayle")


class Servers:
    """A client of servers that refuse some parameters, and, while ``busy``, all questions."""

    def __init__(self, refused: Collection[str], language: str | None) -> None:
        self.refused, self.language = refused, language
        self.busy = False
        self.questions: list[Mapping[str, Any]] = []
        self.calls: list[Mapping[str, Any]] = []

    def stats(self) -> list[Any]:
        return [SimpleNamespace(ready=True, models={})]

    async def health(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def transcribe(self, audio: Any, *, parameters: Mapping[str, Any], **_: Any) -> Transcript:
        is_question = not isinstance(audio, bytes)
        (self.questions if is_question else self.calls).append(parameters)
        if is_question and self.busy:
            raise Overloaded("busy")
        for name in self.refused:
            if name in parameters:
                error = InvalidOption(f"{name} is refused")
                error.code, error.detail = (
                    "invalid_option",
                    f"{name} is {parameters[name]!r}: the served model has none",
                )
                raise error
        return Transcript(
            text="\u4eca\u5929", segments=(Segment("\u4eca\u5929", 0.0, 1.0),), words=(), duration=1.0,
            language=self.language, confidence=0.9, complete=True, tokens=(), token_times=(), endpoint="host:1",
        )  # fmt: skip


class Before(Gateway):
    """A gateway before such servers."""

    def __init__(self, *refused: str, language: str | None = "zh") -> None:
        super().__init__(Settings())
        self.servers = Servers(refused, language)
        self.client = self.servers  # type: ignore[assignment]  # of what is used here
        self.streams: list[Asked] = []
        self.http = TestClient(make_app(self), base_url="http://localhost")

    def stream(self, rate: int, asked: Asked) -> AsyncStream:
        self.streams.append(asked)
        raise overloaded("Enough was seen.")

    def post(self, route: str = "transcriptions", **fields: Any) -> Any:
        answer = self.http.post(f"/v1/audio/{route}", files=FILE, data={"response_format": "verbose_json", **fields})
        return answer.json()


def test_a_prompt_reaches_a_model_that_takes_one() -> None:
    gateway = Before()
    with gateway.http:
        for _ in range(2):
            gateway.post(prompt=f"\x1b{PROMPT}\r\n\tOn\x00", key_terms=["Ada"])
    assert [call["prompt"] for call in gateway.servers.calls] == [f"{PROMPT}\r\n\tOn"] * 2
    assert gateway.servers.calls[0]["key_terms"] == "Ada", "they are the caller's own wish"
    assert len(gateway.servers.questions) == 1, "the answer is remembered"


@pytest.mark.parametrize(
    ("refused", "asked"),
    [(("prompt",), {"key_terms": "\n".join(TERMS)}), (("prompt", "key_terms"), {})],
)
def test_of_a_prompt_the_servers_get_what_they_take(refused: tuple[str, ...], asked: dict[str, str]) -> None:
    gateway = Before(*refused)
    assert gateway.post(prompt=PROMPT)["text"] == "\u4eca\u5929"
    assert gateway.servers.calls == [asked]


def test_servers_that_are_too_busy_to_answer_fail_no_prompt() -> None:
    gateway = Before("prompt", "key_terms")
    gateway.servers.busy = True
    assert gateway.post(prompt=PROMPT)["text"] == "\u4eca\u5929"
    assert gateway.servers.calls == [{}]
    taking = Before()
    with taking.http:
        taking.post(prompt=PROMPT)
        known = taking._answers.items()
        taking._answers = {asked: answer._replace(asked_at=answer.asked_at - 3600) for asked, answer in known}
        taking.servers.busy = True
        taking.post(prompt=PROMPT)
    assert taking.servers.calls[1] == {"prompt": PROMPT}, "an old answer is better than none"


@pytest.mark.parametrize(
    ("refused", "asked"),
    [((), Asked(language="zh", prompt=PROMPT)), (("prompt",), Asked(language="zh", key_terms=TERMS))],
)
@pytest.mark.parametrize("route", ["stream", "realtime"])
def test_live_audio_takes_a_prompt_as_files_do(refused: tuple[str, ...], asked: Asked, route: str) -> None:
    gateway = Before(*refused)
    with gateway.http.websocket_connect(f"ws://localhost/v1/{route}") as socket:
        if route == "stream":
            socket.send_json({"type": "start", "language": "zh", "prompt": PROMPT})
        else:
            new = {"audio": {"input": {"transcription": {"language": "zh", "prompt": PROMPT}}}}
            socket.send_json({"type": "session.update", "session": new})
            socket.send_json({"type": "input_audio_buffer.append", "audio": "AAAA" * 4_000})
        while socket.receive_json()["type"] != "error":
            pass
    assert gateway.streams == [asked]


@pytest.mark.parametrize(("prompt", "said"), [(7, "prompt is 7. Give text."), ("x" * 16_385, "prompt has 16385 char")])
def test_a_prompt_of_a_start_that_is_none_is_refused(prompt: object, said: str) -> None:
    with Before().http.websocket_connect("ws://localhost/v1/stream") as socket:
        socket.send_json({"type": "start", "prompt": prompt})
        error = socket.receive_json()["error"]
    assert (error["code"], error["param"]) == ("invalid_option", "prompt")
    assert said in error["message"]


def test_a_translation_is_english_of_any_language() -> None:
    gateway = Before()
    told = gateway.post("translations", prompt=PROMPT, language="zh")
    assert (told["task"], told["language"]) == ("translate", "english")
    assert gateway.servers.calls == [{"task": "translate", "language": "zh", "prompt": PROMPT}]


@pytest.mark.parametrize("busy", [False, True])
def test_a_translation_that_cannot_be_is_refused(busy: bool) -> None:
    gateway = Before("task")
    gateway.servers.busy = busy
    error = gateway.post("translations")["error"]
    assert (error["code"], error["type"]) == ("not_supported", "invalid_request_error")
    assert error["message"].startswith("Translation is not supported by the served model.")
    assert len(gateway.servers.calls) == busy, "where the servers tell at once nothing is uploaded"


@pytest.mark.parametrize(
    ("language", "name"), [("zh", "chinese"), ("de", "german"), ("nds", "nds"), ("", "english"), (None, "english")]
)
def test_the_language_is_told_by_its_name(language: str | None, name: str) -> None:
    told = Before(language=language).post()
    assert (told["task"], told["language"]) == ("transcribe", name)


def test_every_name_is_one_word_or_two_in_lower_case() -> None:
    assert name_of("ht") == "haitian creole"
    assert name_of(None) == name_of("") == ""
