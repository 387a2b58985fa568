"""The table of live audio beside files says what was measured, on invented results."""

import numpy as np
from asrloop_bench.figures.live.beside import Files, report
from asrloop_bench.figures.live.playing import Judged, Played
from asrloop_bench.figures.live.recordings import Recording
from asrloop_bench.figures.live.rounds import Round
from asrloop_bench.figures.long_recordings import Joined
from asrloop_bench.load.generators import Request, Turn

RECORDING = Recording(Joined(np.zeros(16_000, np.float32), [(0.0, 1.0)]), "one two")


def played(lag: float, text: str) -> Round:
    judged = Judged(first_texts=[0.1], finals=[0.3], lag=lag, taken_back=0, text=text)
    return Round([RECORDING], [Played(late=[0.004])], [judged], 0.25)


def sent(text: str, long: str) -> Files:
    requests = [Request(0, "a", 0.0, 1.0), Request(0, "a", 1.0, 1.5)]
    return Files(Turn(1, 1.5, requests, {"a": {text}}), [12.0], [long])


def test_lag_and_changed_texts_are_seen() -> None:
    table = report(
        [RECORDING], played(0.4, "one two"), played(2.5, "one"), sent("hello", "long"), sent("hallo", "long")
    )
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in table.splitlines() if line.startswith("|")}
    cells = {name: [cell.strip() for cell in row] for name, row in rows.items()}
    assert cells["greatest lag of a stream"] == ["0.4 s", "", "2.5 s"]
    assert cells["streams over 2 s of lag"] == ["0", "", "1"]
    assert cells["word errors of the finals"] == ["0.0%", "", "50.0%"]
    assert cells["clips a second"] == ["", "2.0", "2.0"]
    assert cells["seconds of each long recording a second"] == ["", "12.0", "12.0"]
    assert cells["texts that differ from those of files alone"] == ["", "", "1 of 1 clips, 0 of 1 recordings"]
