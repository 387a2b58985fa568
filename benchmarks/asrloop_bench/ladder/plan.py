"""Goes over the cells of the ladder within a time limit: fewest callers first, fewer rounds when time runs short."""

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from asrloop.config import Settings
from asrloop.families.moonshine.decoding import VOCABULARY
from asrloop.families.vocabulary import Vocabulary
from asrloop_bench.ladder.cells import LEAST_ROUNDS, cell_name, measure_cell
from asrloop_bench.ladder.peers import arms as peer_arms
from asrloop_bench.ladder.rungs import RUNGS, Caller, open_callers, requests_of
from asrloop_bench.method import spread, target
from asrloop_bench.method.clips import Clip
from asrloop_bench.vendor import files

Progress = Callable[[int, int, str, float], None]
"""Cells done, all cells, the next one's name, and seconds left at most."""
CallersOf = Callable[[int], list[Caller]]
Cells = dict[str, dict[str, Any]]


def run(
    settings: Settings,
    arms: Sequence[str],
    clips: Sequence[Clip],
    caller_counts: Sequence[int],
    minutes: float,
    progress: Progress,
    cells: Cells,
) -> list[str]:
    """Start the server and the peers among ``arms``, measure every cell into ``cells``, stop them. Returns notes.

    ``minutes`` limits the measuring. Raises TritonError, WheelError, PeerError, and what the clients raise.
    """
    models = files.prepare()
    vocabulary = Vocabulary.read_binary(files.VENDOR_LOOP / VOCABULARY)
    # As many callers as wait must fit the inbox, whatever config.yaml says.
    inbox = {"ASRLOOP_ENGINE__INBOX": str(max(settings.engine.inbox, *caller_counts))}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(target.started(settings, more_repositories=[models], environment=inbox))
        peers: dict[str, CallersOf] = {}
        if "vendor_runtime" in arms:
            peers["vendor_runtime"] = stack.enter_context(peer_arms.vendor_runtime(scratch))
        if "fastapi" in arms:
            peers["fastapi"] = stack.enter_context(peer_arms.fastapi(settings))
        until = time.monotonic() + 60 * minutes  # the start of the server and of the peers does not count
        rungs = [name for name in arms if name in RUNGS]
        notes: list[str] = []
        order = [(count, clip) for count in sorted(caller_counts) for clip in clips]
        for number, (count, clip) in enumerate(order):
            name = cell_name(clip.seconds, count)
            progress(number, len(order), name, _time_left(until))
            rounds = _affordable(cells, clip, count, _time_left(until))
            if rounds == 0:
                notes.append(f"{name}: left out, the time of the run was over")
                continue
            with open_callers(server.grpc, rungs, count, vocabulary) as made:
                several: Mapping[str, Sequence[Caller]] = {
                    **made,
                    **{peer: callers(count) for peer, callers in peers.items()},
                }
                # Cells of few and short requests need less time for as many rounds.
                weights = [math.sqrt(callers * left.seconds) for callers, left in order[number:]]
                share = _time_left(until) * weights[0] / sum(weights)
                cells[name] = measure_cell(requests_of(several, clip), clip, share, least_rounds=rounds)
        return notes


def _affordable(cells: Cells, clip: Clip, count: int, seconds: float) -> int:
    """Rounds that are sure to fit: LEAST_ROUNDS, or fewer by what the same clip took with one caller; 0 for none."""
    alone = next((cell for cell in cells.values() if cell["clip_seconds"] == clip.seconds), None)
    if alone is None:
        return LEAST_ROUNDS if seconds > 0 else 0
    a_round = (
        count
        / alone["callers"]
        * sum(spread.median(arm["rounds"]) * alone["callers"] for arm in alone["arms"].values())
    )
    return min(LEAST_ROUNDS, int(seconds / a_round))


def _time_left(until: float) -> float:
    """Seconds until a moment of the monotonic clock, at least 0."""
    return max(0.0, until - time.monotonic())
