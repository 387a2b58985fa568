"""Live streams of both clients against a real server with a stand-in model: events, every way of leaving, faults, resuming."""

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from asrloop_client import (
    AsrClient,
    AsyncAsrClient,
    AsyncStream,
    Cancelled,
    ClientClosed,
    DeadlineExceeded,
    InvalidAudio,
    InvalidConfig,
    ModelNotReady,
    Overloaded,
    PoolConfig,
    PoolExhausted,
    ServerFailure,
    ServerGone,
    StreamEvent,
)
from asrloop_client.live.call import StreamCall
from asrloop_client.live.session import Session
from numpy.typing import NDArray

from tests.client.stand_in import StandIn
from tests.conftest import eventually

RATE = 16_000
WORD = RATE // 4
"""Samples for which the stand-in says a word: their mean."""


def audio(words: int) -> NDArray[np.float32]:
    """The words 0.00, 0.01, ..."""
    return np.repeat(np.arange(words, dtype=np.float32) / 100, WORD)


def chunks(words: int, size: int = 1600) -> Iterator[NDArray[np.float32]]:
    samples = audio(words)
    yield from (samples[at : at + size] for at in range(0, samples.size, size))


def said(words: range) -> str:
    return " ".join(f"{word / 100:.2f}" for word in words)


def finals(events: list[StreamEvent]) -> list[str]:
    return [each.stable for each in events if each.final]


TEN_WORDS = [said(range(4)), said(range(4, 8)), said(range(8, 10))]


@pytest.fixture
def client(stand_in: StandIn) -> Iterator[AsrClient]:
    with AsrClient(stand_in.address) as made:
        yield made


def no_stream_is_open(stand_in: StandIn) -> bool:
    return eventually(lambda: stand_in.metric("stand_in_streams") == 0)


@pytest.mark.parametrize("size", [160, 1600, 48_000])
def test_all_audio_arrives_once_and_in_order(client: AsrClient, stand_in: StandIn, size: int) -> None:
    with client.stream(chunks(10, size)) as stream:
        events = list(stream)
    assert finals(events) == TEN_WORDS
    assert [each.segment for each in events if each.final] == [0, 1, 2]
    assert (events[-1].start, events[-1].heard) == (2.0, 2.5)
    assert no_stream_is_open(stand_in)


@pytest.mark.parametrize("kind", ["float64", "int16", "bytes", "list"])
def test_every_form_of_a_chunk(client: AsrClient, kind: str) -> None:
    samples = np.full(WORD, 0.25, np.float32)
    forms: dict[str, Any] = {
        "float64": samples.astype(np.float64),
        "int16": np.full(WORD, 8192, np.int16),
        "bytes": np.full(WORD, 8192, "<i2").tobytes(),
        "list": samples.tolist(),
    }
    with client.stream([forms[kind], np.zeros(0, np.float32)]) as stream:
        assert finals(list(stream)) == ["0.25"]


def test_the_rate_and_parameters_go_with_the_start(client: AsrClient) -> None:
    with client.stream([np.ones(8000, np.float32)], sample_rate=8000) as stream:
        assert finals(list(stream)) == [" ".join(["1.00"] * 4)]
    with pytest.raises(InvalidAudio, match="sample_rate"):
        client.stream(sample_rate=0.5)


def test_finals_have_the_words_of_a_stream_that_asked(client: AsrClient) -> None:
    with client.stream(chunks(10)) as stream:
        assert not any(each.words for each in stream)
    with client.stream(chunks(10), word_times=True) as stream:
        events = list(stream)
    assert not any(each.words for each in events if not each.final)
    words = [word for each in events for word in each.words]
    assert [word.text for word in words] == " ".join(TEN_WORDS).split()
    assert [(word.start, word.end) for word in words] == [(at / 4, (at + 1) / 4) for at in range(10)]
    assert [word.confidence for word in words] == pytest.approx([at / 100 for at in range(10)])


def test_key_terms_go_with_the_start(client: AsrClient) -> None:
    with (
        pytest.raises(InvalidAudio, match=r"key_terms 2\.5"),
        client.stream(chunks(1), key_terms=["refuse", "them"], key_terms_boost=2.5) as stream,
    ):
        list(stream)
    with pytest.raises(InvalidConfig, match="one line"):
        client.stream(chunks(1), key_terms=["a\nb"])


def test_times_of_words_go_on_where_another_server_goes_on(make_stand_in: Callable[..., StandIn]) -> None:
    server = make_stand_in()
    with AsrClient(server.address) as client, client.stream(resume=True, word_times=True) as stream:
        stream.send(audio(6))
        while not next(stream).final:
            pass
        server.kill()
        server.start()
        stream.send(audio(10)[6 * WORD :])
        stream.finish()
        words = [word for each in stream for word in each.words]
    assert [(word.text, word.start) for word in words] == [(f"{at / 100:.2f}", at / 4) for at in range(4, 10)]


def test_by_hand(client: AsrClient) -> None:
    with client.stream() as stream:
        stream.send(audio(1))
        first = next(stream)
        assert (first.stable, first.tail, first.final, first.text) == ("", "0.00", False, "0.00")
        stream.send(audio(3)[WORD:])
        stream.finish()
        stream.finish()
        assert finals(list(stream)) == [said(range(3))]
        with pytest.raises(InvalidConfig, match="has ended"):
            stream.send(audio(1))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_chunk_that_is_no_audio_is_refused_alone(client: AsrClient, wrong: float) -> None:
    with client.stream() as stream:
        for chunk in chunks(10):
            stream.send(chunk)
            with pytest.raises(InvalidAudio, match=f"{wrong} at sample 3"):
                stream.send(np.array([0, 0, 0, wrong], np.float32))
        stream.finish()
        assert finals(list(stream)) == TEN_WORDS


def test_a_stream_outside_of_a_block_says_so(client: AsrClient) -> None:
    with pytest.raises(InvalidConfig, match="`with` block"):
        next(client.stream(chunks(1)))


def test_a_slow_reader_gets_all_finals_and_the_latest_partial_only(client: AsrClient) -> None:
    with client.stream() as stream:
        stream.send(audio(7))
        queued = stream._session._events
        assert eventually(lambda: queued and queued[-1].heard == 7 / 4), "the server has heard all"
        assert [(each.final, each.text) for each in queued] == [(True, said(range(4))), (False, said(range(4, 7)))]
        stream.finish()
        events = list(stream)
    assert finals(events) == [said(range(4)), said(range(4, 7))]
    assert len(events) <= 3


def endless() -> Iterator[NDArray[np.float32]]:
    while True:
        yield np.zeros(1600, np.float32)
        time.sleep(0.02)


@pytest.mark.parametrize("way", ["break", "error", "at once", "client closed", "closed by another thread"])
def test_every_way_of_leaving_ends_the_stream_at_the_server(stand_in: StandIn, way: str) -> None:
    client = AsrClient(stand_in.address)

    def leave() -> None:
        with client.stream(endless()) as stream:
            if way == "at once":
                return
            for _ in stream:
                if way == "break":
                    break
                if way == "error":
                    raise ZeroDivisionError
                threading.Thread(target=(client if way == "client closed" else stream).close).start()

    expected: dict[str, type[BaseException]] = {
        "error": ZeroDivisionError,
        "client closed": ClientClosed,
        "closed by another thread": Cancelled,
    }
    try:
        if way in expected:
            with pytest.raises(expected[way]):
                leave()
        else:
            leave()
        assert no_stream_is_open(stand_in)
        if way != "client closed":
            assert eventually(lambda: client.stats()[0].pool.in_use == 0)
    finally:
        client.close()


def test_an_error_of_the_source_reaches_the_reader(client: AsrClient, stand_in: StandIn) -> None:
    def source() -> Iterator[Any]:
        yield audio(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), client.stream(source()) as stream:
        list(stream)
    with pytest.raises(InvalidAudio, match="3 bytes"), client.stream([b"123"]) as stream:
        list(stream)
    assert no_stream_is_open(stand_in)


def test_a_source_that_waits_for_ever_holds_nobody(client: AsrClient) -> None:
    forever = threading.Event()

    def source() -> Iterator[Any]:
        yield audio(1)
        forever.wait()

    with client.stream(source()) as stream:
        next(stream)
    forever.set()


def test_the_servers_errors_arrive_typed(client: AsrClient, stand_in: StandIn) -> None:
    options: dict[str, Any] = {"fail_fast": True, "timeout": 5}
    with (
        pytest.raises(Overloaded, match="as asked"),
        client.stream(chunks(4), parameters={"refuse": "overloaded"}, **options) as stream,
    ):
        list(stream)
    with (
        pytest.raises(InvalidAudio) as caught,
        client.stream(chunks(4), parameters={"refuse": "bad_sequence"}, **options) as stream,
    ):
        list(stream)
    assert caught.value.code == "bad_sequence"
    with pytest.raises(ServerFailure), client.stream(chunks(8), parameters={"break_after": 1}) as stream:
        list(stream)
    assert no_stream_is_open(stand_in)


def test_a_model_that_is_not_there_is_named(stand_in: StandIn) -> None:
    with (
        AsrClient(stand_in.address, stream_model="nothing") as client,
        pytest.raises(ModelNotReady, match="nothing"),
        client.stream(chunks(4)) as stream,
    ):
        list(stream)


def test_the_wait_for_the_last_event_has_a_limit(client: AsrClient, stand_in: StandIn) -> None:
    with (
        pytest.raises(DeadlineExceeded, match="after the audio's end"),
        client.stream(chunks(2), parameters={"silent_end": 1}, timeout=2) as stream,
    ):
        list(stream)
    assert no_stream_is_open(stand_in)


def test_the_search_for_a_server_has_a_limit() -> None:
    with AsrClient("127.0.0.1:1", prewarm=False) as client:
        with (
            pytest.raises(DeadlineExceeded, match="no server took the stream"),
            client.stream(chunks(2), timeout=0.5) as stream,
        ):
            list(stream)
        with pytest.raises(ServerGone), client.stream(chunks(2), fail_fast=True) as stream:
            list(stream)


def test_two_streams_stay_apart(client: AsrClient) -> None:
    with client.stream() as one, client.stream() as other:
        for word in range(6):
            one.send(audio(6)[word * WORD : (word + 1) * WORD])
            other.send(audio(12)[(word + 6) * WORD : (word + 7) * WORD])
        one.finish()
        other.finish()
        assert finals(list(one)) == [said(range(4)), said(range(4, 6))]
        assert finals(list(other)) == [said(range(6, 10)), said(range(10, 12))]


def test_a_stream_finds_the_server_that_has_room(stand_in: StandIn) -> None:
    with AsrClient([stand_in.address, "127.0.0.1:1"]) as client, client.stream(chunks(10)) as stream:
        assert finals(list(stream)) == TEN_WORDS


def holder(servers: list[StandIn]) -> StandIn:
    """The server that has the one stream."""
    assert eventually(lambda: sum(each.metric("stand_in_streams") for each in servers) == 1)
    return next(each for each in servers if each.metric("stand_in_streams") == 1)


def test_a_lost_server_is_an_error(make_stand_in: Callable[..., StandIn]) -> None:
    server = make_stand_in()
    with AsrClient(server.address) as client, client.stream() as stream:
        stream.send(audio(6))
        assert next(stream)
        server.kill()
        with pytest.raises(ServerGone):
            list(stream)
        with pytest.raises(ServerGone):
            stream.send(audio(1))


@pytest.mark.parametrize("hurt", [signal.SIGKILL, signal.SIGSTOP])
def test_with_resume_another_server_gets_the_open_segment(make_stand_in: Callable[..., StandIn], hurt: int) -> None:
    servers = [make_stand_in(), make_stand_in()]
    with AsrClient([each.address for each in servers]) as client, client.stream(resume=True) as stream:
        stream.send(audio(6))
        events = [next(stream)]
        while not (events[-1].segment == 1 and events[-1].text == said(range(4, 6))):
            events.append(next(stream))
        process = holder(servers)._process
        assert process is not None
        os.killpg(process.pid, hurt)
        stream.send(audio(10)[6 * WORD :])
        stream.finish()
        events += stream
    assert finals(events) == TEN_WORDS
    assert [each.segment for each in events if each.final] == [0, 1, 2]
    assert (events[-1].start, events[-1].heard) == (2.0, 2.5)


def test_with_resume_a_stream_leaves_a_model_whose_process_died(make_stand_in: Callable[..., StandIn]) -> None:
    servers = [make_stand_in(), make_stand_in()]
    with (
        AsrClient([each.address for each in servers], timeout=3) as client,
        # What the second server gets is shorter than that: it begins with the open segment.
        client.stream(resume=True, parameters={"die_after": 1.75}) as stream,
    ):
        for chunk in chunks(10):
            stream.send(chunk)
            time.sleep(0.05)
        stream.finish()
        assert finals(list(stream)) == TEN_WORDS


def test_with_resume_a_restarted_server_goes_on(make_stand_in: Callable[..., StandIn]) -> None:
    server = make_stand_in()
    with AsrClient(server.address) as client, client.stream(resume=True) as stream:
        stream.send(audio(4))
        assert [each for each in (next(stream),) if each.heard <= 1.0]
        server.kill()
        server.start()
        stream.send(audio(10)[4 * WORD :])
        stream.finish()
        assert finals(list(stream))[-2:] == TEN_WORDS[1:]


def run_async(server: StandIn, use: Callable[[AsyncAsrClient], Any]) -> Any:
    async def main() -> Any:
        async with AsyncAsrClient(server.address) as client:
            return await asyncio.wait_for(use(client), 30)

    return asyncio.run(main())


@pytest.mark.parametrize("kind", ["iterable", "async iterable", "by hand"])
def test_asyncio(stand_in: StandIn, kind: str) -> None:
    async def source() -> Any:
        for chunk in chunks(10):
            await asyncio.sleep(0)
            yield chunk

    async def use(client: AsyncAsrClient) -> list[StreamEvent]:
        given: Any = {"iterable": chunks(10), "async iterable": source(), "by hand": None}[kind]
        async with client.stream(given) as stream:
            if given is None:
                for chunk in chunks(10):
                    await stream.send(chunk)
                await stream.finish()
            return [each async for each in stream]

    assert finals(run_async(stand_in, use)) == TEN_WORDS


def test_a_cancelled_task_ends_its_stream_at_the_server(stand_in: StandIn) -> None:
    async def use(client: AsyncAsrClient) -> None:
        opened: asyncio.Future[AsyncStream] = asyncio.get_running_loop().create_future()

        async def listen() -> None:
            async with client.stream() as stream:
                await stream.send(audio(1))
                await anext(stream)
                opened.set_result(stream)
                await anext(stream)

        task = asyncio.create_task(listen())
        await opened
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(no_stream_is_open, stand_in)
        assert client.stats()[0].pool.in_use == 0

    run_async(stand_in, use)


def test_a_reader_that_leaves_is_no_error_in_the_log(stand_in: StandIn) -> None:
    async def use(client: AsyncAsrClient) -> list[Any]:
        said: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        async with client.stream() as stream:
            reading = asyncio.create_task(anext(stream))  # type: ignore[arg-type]
            await asyncio.sleep(0.2)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        del stream, reading
        await asyncio.sleep(0.1)
        gc.collect()
        await asyncio.sleep(0)
        return said

    assert run_async(stand_in, use) == []


def test_who_stops_waiting_for_an_event_gets_it_the_next_time(stand_in: StandIn) -> None:
    async def use(client: AsyncAsrClient) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        async with client.stream(chunks(10)) as stream:
            while True:
                try:
                    events.append(await asyncio.wait_for(anext(stream), 0.0002))
                except TimeoutError:
                    continue
                except StopAsyncIteration:
                    return events

    for _ in range(20):
        assert finals(run_async(stand_in, use)) == TEN_WORDS


@pytest.mark.parametrize(("size", "resume"), [(1600, False), (10 * RATE, False), (60 * RATE, True), (200 * RATE, True)])
def test_audio_is_sent_as_fast_as_it_is_recognised_whatever_the_chunks(
    client: AsrClient, size: int, resume: bool
) -> None:
    count = 4 * (20 if size == 1600 else 200)
    with client.stream(chunks(count, size), parameters={"pace": 200, "backlog": 12}, resume=resume) as stream:
        assert " ".join(finals(list(stream))) == said(range(count))


def test_a_stream_that_is_too_far_ahead_is_not_resumed(client: AsrClient) -> None:
    """A server that answers at once, whatever it has to do."""
    with (
        pytest.raises(Overloaded, match=r"cannot be resumed: \d+ s of audio without final text are no longer kept"),
        client.stream(chunks(4 * 300, 10 * RATE), parameters={"backlog": 100, "mute_after": 1}, resume=True) as stream,
    ):
        list(stream)


def test_silence_before_a_server_is_lost_is_no_lost_audio(make_stand_in: Callable[..., StandIn]) -> None:
    server = make_stand_in()
    with AsrClient(server.address) as client, client.stream(resume=True, parameters={"mute_after": 1}) as stream:
        stream.send(audio(4))
        while not next(stream).final:
            pass
        stream.send(np.zeros(60 * RATE, np.float32))
        server.kill()
        server.start()
        stream.finish()
        list(stream)


def test_sending_to_a_server_that_does_not_read_has_a_limit(client: AsrClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "_write", lambda *_: asyncio.sleep(60))
    with client.stream(timeout=2) as stream:
        stream.send(audio(4 * 31))
        with pytest.raises(DeadlineExceeded, match="31 s of audio wait"):
            stream.send(audio(1))


def test_a_response_that_fails_after_the_stream_was_left_is_no_traceback(
    client: AsrClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun, left, failed = threading.Event(), threading.Event(), threading.Event()

    async def read(_: StreamCall) -> Any:
        begun.set()
        try:
            while not left.is_set():
                await asyncio.sleep(0.01)
            raise ServerGone("it was lost")
        finally:
            failed.set()

    monkeypatch.setattr(StreamCall, "read", read)
    with client.stream() as stream:
        stream.send(audio(1))
        assert begun.wait(10)
    left.set()
    assert failed.wait(10)
    time.sleep(0.2)
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_a_long_chunk_is_taken_piece_by_piece(client: AsrClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "_write", lambda *_: asyncio.sleep(60))
    with client.stream(timeout=2, sample_rate=48_000) as stream:
        with pytest.raises(DeadlineExceeded):
            stream.send(bytes(4 << 20))
        waiting = stream._session._waiting
        assert 2 << 20 < sum(piece.nbytes for piece in waiting) < (2 << 20) + 2 * 48_000 + 1
        assert all(piece.base is None for piece in waiting), "the chunk itself is not kept"


def test_an_error_of_an_async_source_reaches_the_reader(stand_in: StandIn) -> None:
    async def source() -> Any:
        yield audio(1)
        raise ZeroDivisionError

    async def use(client: AsyncAsrClient) -> None:
        async with client.stream(source()) as stream:
            async for _ in stream:
                pass

    with pytest.raises(ZeroDivisionError):
        run_async(stand_in, use)


def test_streams_hold_a_channel_each_and_give_it_back(stand_in: StandIn) -> None:
    with AsrClient(stand_in.address, pool=PoolConfig(min_channels=1, max_channels=2, acquire_timeout=1)) as client:
        with client.stream() as one, client.stream() as other:
            for each in (one, other):
                each.send(audio(1))
                next(each)
            with pytest.raises(PoolExhausted), client.stream() as third:
                next(third)
        assert eventually(lambda: client.stats()[0].pool.in_use == 0)
        with client.stream(chunks(10)) as stream:
            assert finals(list(stream)) == TEN_WORDS


def test_eight_streams_survive_their_server_and_eight_others_are_told(make_stand_in: Callable[..., StandIn]) -> None:
    servers = [make_stand_in(), make_stand_in()]

    async def listen(client: AsyncAsrClient, resume: bool) -> list[str]:
        async def source() -> Any:
            for chunk in chunks(10):
                yield chunk
                await asyncio.sleep(0.1)

        async with client.stream(source(), resume=resume) as stream:
            return finals([each async for each in stream])

    async def main() -> list[Any]:
        async with AsyncAsrClient([each.address for each in servers]) as client:
            running = [asyncio.create_task(listen(client, number < 8)) for number in range(16)]
            await asyncio.sleep(1.2)
            servers[0].kill()
            return await asyncio.wait_for(asyncio.gather(*running, return_exceptions=True), 30)

    results = asyncio.run(main())
    assert results[:8] == [TEN_WORDS] * 8
    assert {type(each) for each in results[8:]} == {list, ServerGone}
