"""Fixtures: stand-in servers, and the two clients behind one interface."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

import pytest
from asrloop_client import AsrClient, AsyncAsrClient, Transcript

from asrloop.tritonserver.install import TritonInstallation
from tests.client.stand_in import StandIn
from tests.client.stub import Stub
from tests.ports import free_ports


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "network: needs a package index")


@pytest.fixture(scope="session")
def stand_in(installation: TritonInstallation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """One server for all tests that leave it running."""
    server = StandIn(installation, tmp_path_factory.mktemp("stand_in") / "log")
    try:
        yield server.start()
    finally:
        server.kill()


@pytest.fixture
def make_stub(tmp_path: Path) -> Iterator[Callable[..., Stub]]:
    """Starts stub servers for one test alone."""
    stubs: list[Stub] = []

    def make(**options: Any) -> Stub:
        (port,) = free_ports(1)
        stubs.append(Stub(port, tmp_path / f"stub{len(stubs)}", **options))
        return stubs[-1].start()

    yield make
    for stub in stubs:
        stub.kill()


@pytest.fixture
def make_stand_in(installation: TritonInstallation, tmp_path: Path) -> Iterator[Callable[..., StandIn]]:
    """Starts servers for one test alone."""
    servers: list[StandIn] = []

    def make(*arguments: str) -> StandIn:
        servers.append(StandIn(installation, tmp_path / f"log{len(servers)}", arguments))
        return servers[-1].start()

    yield make
    for server in servers:
        server.kill()


class Client(Protocol):
    """What both clients can do, called from threads."""

    def transcribe(self, audio: Any, **options: Any) -> Transcript: ...
    def submit(self, audio: Any, **options: Any) -> "Future[Transcript]": ...
    def transcribe_many(self, audios: Any, **options: Any) -> list[Any]: ...
    def stats(self) -> list[Any]: ...
    def health(self) -> list[Any]: ...
    def close(self) -> None: ...


class BlockingAdapter:
    """AsrClient, with `submit` on its own thread."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self.client = AsrClient(*arguments, **settings)

    def submit(self, audio: Any, **options: Any) -> "Future[Transcript]":
        future: Future[Transcript] = Future()

        def run() -> None:
            try:
                future.set_result(self.client.transcribe(audio, **options))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return future

    def transcribe_many(self, audios: Any, **options: Any) -> list[Any]:
        return list(self.client.transcribe_many(audios, **options))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


class AsyncAdapter:
    """AsyncAsrClient in a loop on a thread."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self.client = self._run(self._make(*arguments, **settings))
        except BaseException:
            self._stop()
            raise

    async def _make(self, *arguments: Any, **settings: Any) -> AsyncAsrClient:
        client = AsyncAsrClient(*arguments, **settings)
        if settings.get("prewarm", True):
            try:
                await client.start()
            except BaseException:
                await client.close()
                raise
        return client

    def transcribe(self, audio: Any, **options: Any) -> Transcript:
        return self.submit(audio, **options).result()

    def submit(self, audio: Any, **options: Any) -> "Future[Transcript]":
        return asyncio.run_coroutine_threadsafe(self.client.transcribe(audio, **options), self._loop)

    def transcribe_many(self, audios: Any, **options: Any) -> list[Any]:
        async def collect() -> list[Any]:
            return [each async for each in self.client.transcribe_many(audios, **options)]

        return self._run(collect())

    def stats(self) -> list[Any]:
        return self.client.stats()

    def health(self) -> list[Any]:
        return self._run(self.client.health())

    def close(self) -> None:
        if not self._loop.is_closed():
            self._run(self._close())
            self._stop()

    async def _close(self) -> None:
        await self.client.close()
        # Calls that close() ended still have to give their errors to those who wait.
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(params=["threads", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Client]]:
    """Makes clients of one kind: each test runs with both."""
    adapter = BlockingAdapter if request.param == "threads" else AsyncAdapter
    clients: list[Any] = []

    def make(*arguments: Any, **settings: Any) -> Any:
        clients.append(adapter(*arguments, **settings))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
