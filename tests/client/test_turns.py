"""Who is to say when a turn ends: what a live stream asks of the server, and what the server tells."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from asrloop_client import END_SEGMENT, AsrClient, AsyncAsrClient, InvalidConfig
from asrloop_client.asked import asked
from asrloop_client.live.call import StreamCall
from asrloop_client.live.chunks import as_chunk, chunk_request, pieces_of
from asrloop_client.live.events import read_event
from asrloop_client.live.kept import KeptAudio
from tritonclient.grpc import service_pb2

from tests.client.stand_in import StandIn

TURNS: Any = {
    "turn_detection": "semantic",
    "silence_ms": 400,
    "turn_threshold": 0.6,
    "longest_pause_ms": 2000,
    "speech_threshold": 0.4,
    "padding_ms": 0,
}
SECOND = np.zeros(16_000, np.int16)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The requests that streams have sent."""
    requests: list[Any] = []
    write = StreamCall.write

    async def noted(call: StreamCall, request: Any) -> bool:
        requests.append(request)
        return await write(call, request)

    monkeypatch.setattr(StreamCall, "write", noted)
    return requests


def asks(requests: list[Any]) -> list[tuple[int, bool]]:
    """Samples of each request, and whether it ends the open segment."""
    return [
        (each.inputs[0].shape[0], "end_segment" in each.parameters and each.parameters["end_segment"].bool_param)
        for each in requests
    ]


def sent(request: Any) -> dict[str, Any]:
    """The parameters of a request."""
    return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in request.parameters.items()}


def test_an_end_of_a_segment_goes_between_the_chunks(stand_in: StandIn, written: list[Any]) -> None:
    with (
        AsrClient(stand_in.address) as client,
        client.stream([SECOND, END_SEGMENT, SECOND[:0], SECOND], **TURNS) as events,
    ):
        list(events)
    assert {name: value for name, value in sent(written[0]).items() if name in TURNS} == TURNS
    assert asks(written) == [(0, False), (16_000, False), (0, True), (0, False), (16_000, False), (0, False)]


def test_nobody_asks_where_nothing_was_given(stand_in: StandIn, written: list[Any]) -> None:
    with AsrClient(stand_in.address) as client, client.stream([SECOND]) as events:
        list(events)
    assert not {name for each in written for name in each.parameters} & {*TURNS, "end_segment"}


def test_asyncio(stand_in: StandIn, written: list[Any]) -> None:
    async def source() -> AsyncIterator[Any]:
        yield SECOND
        yield END_SEGMENT

    async def main() -> None:
        async with (
            AsyncAsrClient(stand_in.address) as client,
            client.stream(source(), turn_detection="none", speech_threshold=1, padding_ms=2000) as events,
        ):
            async for _ in events:
                pass

    asyncio.run(main())
    assert {"turn_detection": "none", "speech_threshold": 1.0, "padding_ms": 2000}.items() <= sent(written[0]).items()
    assert asks(written)[1:3] == [(16_000, False), (0, True)]


def test_an_empty_chunk_is_no_end_of_a_segment() -> None:
    assert "end_segment" not in chunk_request("m", "s", as_chunk(np.empty(0, np.int16))).parameters
    (piece,) = pieces_of(as_chunk(END_SEGMENT), 16_000)
    assert chunk_request("m", "s", piece).parameters["end_segment"].bool_param


def test_another_server_is_told_which_segments_ended_too() -> None:
    kept = KeptAudio(16_000)
    for chunk in (SECOND, END_SEGMENT, SECOND, END_SEGMENT):
        kept.append(chunk)
    begin, again = kept.since(1.5)
    assert begin == 1.5
    assert [(each.size, each is END_SEGMENT) for each in again] == [(8000, False), (0, True)]
    assert [each is END_SEGMENT for each in kept.since(0.0)[1]] == [False, True, False, True]


def event(**outputs: np.ndarray) -> Any:
    texts = {"STABLE": b"\1\0\0\0a", "TAIL": b"\0\0\0\0", "FINAL": b"\0"}
    tensors = {name: tensor.tobytes() for name, tensor in outputs.items()}
    raw = {"SEGMENT": b"\0\0\0\0", "TIMES": np.array([0, 1], np.float32).tobytes(), **texts, **tensors}
    response = service_pb2.ModelInferResponse(model_name="m")
    for name, content in raw.items():
        response.outputs.add(name=name)
        response.raw_output_contents.append(content)
    return read_event(response, "here")[0]


def test_an_event_says_how_probable_it_is_that_the_speaker_is_done() -> None:
    assert event(TURN=np.array([0.75], np.float32)).turn == 0.75
    assert event(TURN=np.array([0], np.float32)).turn == 0.0
    assert event(TURN=np.array([-1], np.float32)).turn is None, "nobody asked"
    assert event().turn is None, "a server of an older version"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"turn_detection": 1}, "turn_detection is 1: give a str"),
        ({"silence_ms": 0.5}, r"silence_ms is 0\.5: give a whole number"),
        ({"silence_ms": True}, "silence_ms is True: give a whole number"),
        ({"turn_threshold": "high"}, "turn_threshold is 'high': give a number"),
        ({"speech_threshold": float("inf")}, "speech_threshold is inf: give a number"),
        ({"longest_pause_ms": 2.5}, r"longest_pause_ms is 2\.5: give a whole number"),
        ({"padding_ms": "300"}, "padding_ms is '300': give a whole number"),
        ({"silence_ms": 2**63}, "silence_ms is 9223372036854775808: give a whole number of at most 64 bits"),
        ({"turn_threshold": 10**400}, "turn_threshold is 1000"),
    ],
)
def test_what_no_server_could_take_says_how_to_fix_it(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        asked(None, **wrong)
