"""Times and confidences of words, log probabilities of tokens, and key terms, by OpenAI's package and a plain WebSocket."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from asrloop_client import AsyncStream
from asrloop_gateway.asked import Asked
from asrloop_gateway.errors import overloaded
from asrloop_gateway.gateway import Gateway
from asrloop_gateway.realtime import Realtime
from asrloop_gateway.settings import Settings
from numpy.typing import NDArray
from openai import OpenAI
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from tests.conftest import BECKETT, StartServer, words
from tests.gateway.conftest import RunningGateway, StartGateway, pcm
from tests.gateway.test_openai import COMPLETED, append, realtime, until
from tests.gateway.test_streams import opened, rest, send

STRONG = {"key_terms_boost": 10}
"""So strong that a term is heard for a word that sounds alike."""


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def ask(client: OpenAI, beckett_file: bytes) -> Any:
    """A transcription; keywords that the package does not know are fields of the form."""

    def create(extra: dict[str, Any] | None = None, **options: Any) -> Any:
        return client.audio.transcriptions.create(
            file=("b.wav", beckett_file), model="any", extra_body=extra or {}, **options
        )

    return create


def assert_are_said(told: list[Any], first: float = 0.0, last: float = 9.5) -> None:
    """They are the words, in order, with their times and confidences."""
    assert words(" ".join(word["word"] for word in told)) == BECKETT
    assert first <= told[0]["start"]
    assert told[-1]["end"] <= last
    assert all(word["start"] < word["end"] for word in told)
    assert all(one["end"] <= other["start"] for one, other in itertools.pairwise(told))
    assert all(0 < word["confidence"] <= 1 for word in told)


def test_words_have_times_and_confidences_where_they_are_asked_for(ask: Any) -> None:
    verbose = ask(response_format="verbose_json", timestamp_granularities=["word"]).to_dict()
    assert_are_said(verbose["words"])
    assert "segments" not in verbose
    assert "words" not in ask(response_format="verbose_json").to_dict()


def test_the_last_event_has_the_words(ask: Any) -> None:
    *_, done = ask(stream=True, response_format="verbose_json", timestamp_granularities=["segment", "word"])
    assert done.type == "transcript.text.done"
    assert_are_said(done.to_dict()["words"])
    *_, plain = ask(stream=True, response_format="verbose_json")
    assert "words" not in plain.to_dict()


def test_log_probabilities_are_those_of_the_tokens_of_the_text(ask: Any) -> None:
    asked = ask(include=["logprobs"])
    *_, done = ask(include=["logprobs"], stream=True)
    for told in (asked.logprobs, done.logprobs):
        assert "".join(each.token for each in told) == asked.text
        assert bytes(int(byte) for each in told for byte in each.bytes) == asked.text.encode()
        assert all(-10 < each.logprob <= 0 for each in told)
        assert min(each.logprob for each in told) < -0.01
    assert ask().logprobs is None


@pytest.mark.parametrize(
    "terms",
    [
        {"key_terms": ["Szczecin", "Fayle"]},
        {"key_terms": '["Szczecin", "Fayle"]'},
        {"key_terms": "Szczecin,Fayle"},
        {"prompt": "Names: Szczecin, Fayle."},
        {"prompt": "This is a talk which was given by Mr. Szczecin and by a man called Fayle in another town."},
    ],
)
def test_key_terms_are_heard(ask: Any, terms: dict[str, Any]) -> None:
    assert "fayle" in words(ask(extra={**terms, **STRONG}).text)
    assert words(ask(extra=terms).text) == BECKETT, "without the boost it is clear what was said"


@pytest.mark.parametrize("prompt", ["Ever tried. " * 300, "\x00\x01, \u200d", ", ".join(map(str, range(1000)))])
def test_no_prompt_fails_a_request(ask: Any, prompt: str) -> None:
    assert words(ask(prompt=prompt).text) == BECKETT


@pytest.mark.parametrize(
    ("extra", "param", "message"),
    [
        ({"key_terms": [f"Name{number}" for number in range(101)]}, "key_terms[]", "has 101 terms. Give at most 100"),
        ({"key_terms": ["a" * 65]}, "key_terms[]", "a term of 65 characters"),
        ({"key_terms": ["a\x07b"]}, "key_terms[]", "no control characters"),
        ({"key_terms": '["\\ud800"]'}, "key_terms[]", r"is '\\ud800'"),
        ({"key_terms_boost": "11"}, "key_terms_boost", r"is 11.0: send a number in 0\.\.10"),
        ({"key_terms_boost": "nan"}, "key_terms_boost", "is nan: send a number"),
        ({"key_terms_boost": "much"}, "key_terms_boost", "is 'much': send a number"),
    ],
)
def test_what_the_servers_refuse_is_said_with_its_field(
    ask: Any, extra: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=message) as refused:
        ask(extra=extra)
    assert (refused.value.code, refused.value.param) == ("invalid_option", param)


def test_log_probabilities_of_a_long_file_are_those_of_its_text(client: OpenAI, long_file: bytes) -> None:
    told = client.audio.transcriptions.create(file=("b.flac", long_file), model="any", include=["logprobs"])
    assert told.logprobs is not None
    assert "".join(each.token or "" for each in told.logprobs) == told.text


def test_a_hundred_terms_may_come_in_fields_of_their_own(ask: Any) -> None:
    assert words(ask(extra={"key_terms": [f"Name{number}" for number in range(100)]}).text) == BECKETT


@pytest.mark.slow
def test_a_prompt_does_no_harm_where_no_key_terms_are_served(
    start_gateway: StartGateway,
    start_server: StartServer,
    repository_copy: Path,
    beckett_file: bytes,
    beckett: NDArray[np.float32],
) -> None:
    config = repository_copy / "decoder_loop" / "config.pbtxt"
    config.write_text(config.read_text().replace('"in_process"', '"bls"'))
    with (
        start_server(repository_copy) as server,
        start_gateway(server.grpc_endpoint) as gateway,
        OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=60) as client,
    ):

        def ask(**extra: Any) -> str:
            return words(
                client.audio.transcriptions.create(file=("b.wav", beckett_file), model="any", extra_body=extra).text
            )

        assert ask(prompt="Names: Szczecin, Fayle.") == BECKETT
        with pytest.raises(openai.BadRequestError, match="key_terms are not served") as refused:
            ask(key_terms=["Szczecin"])
        assert refused.value.param == "key_terms[]"
        (said,) = asyncio.run(_prompted(gateway, pcm(beckett), "Names: Szczecin, Fayle."))
        assert said.startswith("ever tried ever failed"), "the rest differs in pieces without drafts"


def live(gateway: RunningGateway, samples: NDArray[np.float32], **start: Any) -> list[dict[str, Any]]:
    """Events of a live stream."""

    async def talk() -> list[dict[str, Any]]:
        async with opened(gateway) as socket:
            await socket.send(json.dumps({"type": "start", **start}))
            await send(socket, samples)
            await socket.send(json.dumps({"type": "end"}))
            return await rest(socket)

    return asyncio.run(talk())


def test_finals_of_live_audio_have_words(gateway: RunningGateway, beckett: NDArray[np.float32]) -> None:
    events = live(gateway, np.pad(beckett, (16_000, 8_000)), word_times=True)
    assert all(("words" in event) == event["final"] for event in events)
    assert_are_said([word for event in events if event["final"] for word in event["words"]], 1.0, 10.5)
    for event in events:
        if event["final"]:
            assert " ".join(word["word"] for word in event["words"]) == event["stable"]
            assert event["times"][0] <= event["words"][0]["start"]
            assert event["words"][-1]["end"] <= event["times"][1]


def test_key_terms_are_heard_live(gateway: RunningGateway, beckett: NDArray[np.float32]) -> None:
    events = live(gateway, beckett, key_terms=["Szczecin", "Fayle"], key_terms_boost=10)
    assert "fayle" in words(" ".join(event["stable"] for event in events if event.get("final")))


@pytest.mark.parametrize(
    ("start", "param", "message"),
    [
        ({"word_times": "maybe"}, "word_times", "word_times is 'maybe'. Give true or false."),
        ({"key_terms": "Szczecin"}, "key_terms", "key_terms is 'Szczecin'. Give a list"),
        ({"key_terms": ["Szczecin", 7]}, "key_terms", "key_terms is 7. Give text."),
        ({"key_terms": ["a"] * 101}, "key_terms", "has 101 terms. Give at most 100"),
        ({"key_terms": ["a" * 65]}, "key_terms", "a term of 65 characters"),
        ({"key_terms_boost": []}, "key_terms_boost", "key_terms_boost is []. Give a number."),
        ({"key_terms_boost": 11}, "key_terms_boost", "key_terms_boost is 11.0: send a number in 0..10"),
        ({"key_terms_boost": float("nan")}, "key_terms_boost", "key_terms_boost is nan: send a number"),
    ],
)
def test_a_start_that_asks_for_what_cannot_be_is_refused(
    gateway: RunningGateway, beckett: NDArray[np.float32], start: dict[str, Any], param: str, message: str
) -> None:
    (event,) = live(gateway, beckett[:16_000], **start)
    assert (event["error"]["code"], event["error"]["param"]) == ("invalid_option", param)
    assert message in event["error"]["message"]


async def _prompted(gateway: RunningGateway, content: bytes, *prompts: str) -> list[str]:
    """What a session says that has one prompt after another."""
    said = []
    async with realtime(gateway, format={"type": "audio/pcm", "rate": 16_000}, turn_detection=None) as connection:
        for prompt in prompts:
            new = {"type": "transcription", "audio": {"input": {"transcription": {"prompt": prompt}}}}
            await connection.send({"type": "session.update", "session": new})
            await append(connection, content)
            await connection.input_audio_buffer.commit()
            said.append(words((await until(connection, COMPLETED))[-1].transcript))
    return said


def test_no_prompt_of_a_realtime_session_fails_it(gateway: RunningGateway, beckett: NDArray[np.float32]) -> None:
    prompts = ("Names: Szczecin, Fayle", "\x00, \u200d" * 500, "Nobody says a name in this whole sentence.")
    assert asyncio.run(_prompted(gateway, pcm(beckett), *prompts)) == [BECKETT] * 3


class Watched(Gateway):
    """Keeps what it would ask of servers, which do not exist."""

    def __init__(self, takes: bool) -> None:
        super().__init__(Settings())
        self.takes_terms = takes
        self.streams: list[Asked] = []
        self.questions: list[Asked] = []

    async def server_there(self) -> None:
        pass

    async def _ask(self, asked: Asked) -> str:
        self.questions.append(asked)
        return "" if self.takes_terms and not asked.prompt else "they take none"

    def stream(self, rate: int, asked: Asked) -> AsyncStream:
        self.streams.append(asked)
        raise overloaded("Enough was seen.")


@pytest.mark.parametrize(("takes", "terms"), [(True, ("Names", "Szczecin", "Fayle")), (False, ())])
def test_names_of_a_realtime_prompt_are_key_terms_where_the_servers_take_them(
    takes: bool, terms: tuple[str, ...]
) -> None:
    gateway = Watched(takes)

    async def serve(websocket: WebSocket) -> None:
        try:
            await Realtime(gateway).serve(websocket)
            assert await gateway.prompted(Asked(), "Names: Szczecin, Fayle.") == Asked(key_terms=terms)
        finally:
            await gateway.client.close()

    client = TestClient(Starlette(routes=[WebSocketRoute("/", serve)]), base_url="http://localhost")
    transcription = {"language": "en", "prompt": "Names: Szczecin, Fayle."}
    with client.websocket_connect("ws://localhost/") as socket:
        socket.send_json({"type": "session.update", "session": {"audio": {"input": {"transcription": transcription}}}})
        socket.send_json({"type": "input_audio_buffer.append", "audio": base64.b64encode(bytes(9_600)).decode()})
        while socket.receive_json()["type"] != "error":
            pass
    assert gateway.streams == [Asked(language="en", key_terms=terms)]
    assert len(gateway.questions) == 2, "the answers are remembered"
