"""Two real servers hurt in turn under the callers of one client: no call fails, no text is wrong. `make test-chaos`."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asrloop_client import AsrClient, ServersDied

from tests.conftest import BECKETT, eventually, words
from tests.faults.harness import Serving, Speech

SECONDS = 60.0
CALLERS = 16


def killed(serving: Serving) -> None:
    os.kill(serving.server, signal.SIGKILL)


def hung(serving: Serving) -> None:
    stopped = serving.server
    os.kill(stopped, signal.SIGSTOP)
    time.sleep(5)
    if serving.server == stopped:  # what watches it may have replaced it
        os.kill(stopped, signal.SIGCONT)


def restarted(serving: Serving) -> None:
    serving.stop()
    serving.start()


def without_decoding(serving: Serving) -> None:
    """Stop the process that decodes files: until it is replaced, files fail there and samples do not."""
    os.kill(serving.processes()["audio_frontend"], signal.SIGSTOP)
    time.sleep(5)


HURTS: list[Callable[[Serving], None]] = [killed, hung, without_decoding, restarted]


def answers_again(client: AsrClient, number: int) -> bool:
    """Whether that server comes in again and gets some calls."""
    before = client.stats()[number].calls
    return eventually(lambda: client.stats()[number].live and client.stats()[number].calls > before + 4, 60)


@pytest.mark.slow
def test_two_servers_hurt_in_turn_cost_no_call(tmp_path: Path, speech: Speech, model_repository: Path) -> None:
    servers = [Serving(tmp_path / f"serve{number}.log") for number in range(2)]
    took, wrong, failed, over = list[float](), list[str](), list[BaseException](), threading.Event()

    def ask(client: AsrClient, number: int) -> None:
        random_ = random.Random(number)
        while not over.is_set():
            audio: Any = speech.file if random_.random() < 0.5 else speech.samples
            began = time.monotonic()
            try:
                text = client.transcribe(audio).text
            except BaseException as error:
                failed.append(error)
            else:
                took.append(time.monotonic() - began)
                if words(text) != BECKETT:
                    wrong.append(text)

    try:
        for server in servers:
            server.wait(speech)
        with AsrClient([each.address for each in servers], timeout=30) as client:
            threads = [threading.Thread(target=ask, args=(client, number)) for number in range(CALLERS)]
            for thread in threads:
                thread.start()
            started, turn = time.monotonic(), 0
            while time.monotonic() - started < SECONDS:
                hurt, server = HURTS[turn // 2 % len(HURTS)], servers[turn % 2]
                hurt(server)
                # The other is hurt only when this one serves again: with both gone nobody could answer.
                assert answers_again(client, turn % 2), server.said()
                turn += 1
            over.set()
            for thread in threads:
                thread.join(60)
        seconds = time.monotonic() - started
    finally:
        over.set()
        for server in servers:
            server.stop()
    print(
        f"\n{len(took) + len(failed)} calls of {CALLERS} callers in {seconds:.0f} s, a server hurt {turn} times: "
        f"{len(failed)} failed, slowest {max(took):.1f} s, {len(wrong)} wrong texts"
    )
    assert failed == []
    assert wrong == []
    assert len(took) > 100


@pytest.mark.slow
def test_a_file_that_ends_its_server_ends_two_and_no_neighbour_suffers(
    tmp_path: Path, speech: Speech, repository_copy: Path
) -> None:
    model = repository_copy / "audio_frontend" / "1" / "model.py"
    decode = "(files,) = (tensor.reshape(-1).tolist() for tensor in tensors_of(request).values())\n"
    assert decode in model.read_text()
    deadly = f"{decode}        any(b'POISON' in bytes(file) for file in files) and os._exit(9)\n"
    model.write_text(model.read_text().replace(decode, deadly))
    servers = [Serving(tmp_path / f"serve{number}.log", repository=repository_copy) for number in range(3)]
    outcomes, over = Counter[str](), threading.Event()

    def ask(client: AsrClient) -> None:
        while not over.is_set():
            try:
                outcomes["ok" if words(client.transcribe(speech.file).text) == BECKETT else "wrong text"] += 1
            except BaseException as error:
                outcomes[repr(error)] += 1

    try:
        for server in servers:
            server.wait(speech)
        with AsrClient([each.address for each in servers], timeout=60) as client:
            threads = [threading.Thread(target=ask, args=(client,)) for _ in range(6)]
            for thread in threads:
                thread.start()
            before = [server.server for server in servers]
            time.sleep(2)
            with pytest.raises(ServersDied) as caught:
                client.transcribe(speech.file + b"POISON")
            assert eventually(lambda: all(state.live for state in client.stats()), 60)
            time.sleep(2)
            over.set()
            for thread in threads:
                thread.join(60)
        died = [server.address for server, process in zip(servers, before, strict=True) if server.server != process]
    finally:
        over.set()
        for server in servers:
            server.stop()
    print(f"\n{dict(outcomes)}; {caught.value}")
    assert len(died) == 2
    assert all(address in str(caught.value) for address in died)
    assert set(outcomes) == {"ok"}
