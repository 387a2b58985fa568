"""Speakers: how much time of joined conversations goes to the wrong one, how many are found, and what it costs."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from asrloop_client import AsrClient

from asrloop import paths
from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.engine.attribution import SpeakerTurn
from asrloop.engine.outputs import Transcript
from asrloop.offline import Model
from asrloop.recognizer import DEFAULT
from asrloop.speakers import diarizer
from asrloop.speakers.diarizer import Diarizer
from asrloop.speakers.networks import SAMPLES, OnnxNetworks
from asrloop_bench.figures import aims
from asrloop_bench.figures.aims import Row, at_least, at_most
from asrloop_bench.figures.figure import Manifest, Run
from asrloop_bench.method import clips, markdown, spread
from asrloop_bench.method.interleave import Measured

SIZES, SEEDS = (2, 3, 4, 6), (0, 1, 2)
SECONDS = 180.0
TURN, PAUSE = (1.0, 8.0), (0.1, 1.0)
LEAST = 6.0
"""Seconds of speech that a speaker must have in the manifest."""

UNDOCUMENTED = "speaker undocumented"
LEVEL, NOISE = 0.05, 2e-4
COLLAR = 0.25
DISTANCES = (0.64, 0.70, 0.76, 0.82, 0.88)
LONG = 600.0
COST_SECONDS = 60.0


class Conversation(NamedTuple):
    """Clips in turns, and who says what."""

    speakers: int
    samples: Samples
    truth: list[tuple[float, float, str]]


class Found(NamedTuple):
    conversation: Conversation
    turns: list[SpeakerTurn]


def speakers(
    run: Run,
    manifest: Manifest,
    seen: Annotated[
        str, typer.Option(help="Speakers of the manifest that constants were found with, with spaces; not reported.")
    ] = "",
) -> str:
    """Measure who spoke when: conversations joined from clips whose manifest says the `speaker`, cost, memory, edges."""
    people = voices(manifest)
    held = {name: people[name] for name in people if name not in seen.split()}
    known = {name: people[name] for name in people if name in seen.split()}
    directory = _directory()
    networks = OnnxNetworks(directory)
    run.step("conversations")
    found = {given: [heard(one, networks, given=given) for one in conversations(held)] for given in (False, True)}
    rows = _errors(found)
    run.step("edges")
    rows += _edges(networks, held)
    with Model(directory, run.settings) as model:
        run.step("words")
        rows += _words(model, held)
    run.step("cost")
    with run.server() as server, AsrClient(server.grpc) as client:
        rows.append(_cost(client, conversation(held, 3, 7, LONG).samples))
    run.step("memory")
    rows.append(_memory(directory))
    text = f"Of {len(held)} speakers that no constant was found with, {len(found[False])} conversations of {SECONDS:.0f} s:\n\n"
    text += aims.table(rows)
    if known:
        run.step("distances")
        text += f"\n\nThe other {len(known)} speakers, by the distance from which on two groups are two speakers:\n\n"
        text += _distances(known, networks)
    return text


def _directory() -> Path:
    repository = paths.beside_us("model_repository") or Path("model_repository")
    return repository / DEFAULT.loop / "1"


def voices(manifest: Path) -> dict[str, list[Samples]]:
    """Return the clips of each speaker with enough speech, cut to where they sound, without noisy ones and those of an
    undocumented speaker, who may be two."""
    found: dict[str, list[Samples]] = {}
    for line in manifest.read_text(encoding="utf-8").splitlines():
        entry: Mapping[str, Any] = json.loads(line)
        if "speaker" in entry and entry.get("condition") != "noisy" and entry.get("flag") != UNDOCUMENTED:
            found.setdefault(entry["speaker"], []).append(sounding(clips.read(manifest.parent / entry["audio"])))
    return {name: each for name, each in found.items() if sum(map(len, each)) >= LEAST * SAMPLE_RATE}


def sounding(samples: Samples) -> Samples:
    """Cut off what is quiet at both ends."""
    frames = samples[: samples.size // 160 * 160].reshape(-1, 160)
    levels = 10 * np.log10((frames**2).mean(axis=1) + 1e-12)
    loud = levels > max(float(np.percentile(levels, 5)) + 10, float(levels.max()) - 35)
    runs = np.flatnonzero(np.convolve(loud, np.ones(3), "valid") == 3)
    return samples[runs[0] * 160 : (runs[-1] + 3) * 160] if runs.size else samples[:0]


def conversations(people: Mapping[str, Sequence[Samples]]) -> Iterator[Conversation]:
    """Yield conversations of each size and seed, with other speakers each time."""
    for size in SIZES:
        for seed in SEEDS:
            yield conversation(people, size, seed)


def conversation(
    people: Mapping[str, Sequence[Samples]], size: int, seed: int, seconds: float = SECONDS
) -> Conversation:
    """Join turns of ``size`` speakers at one level, with faint noise throughout; none follows itself."""
    draw = np.random.default_rng(1000 * size + seed)
    names = draw.permutation(sorted(people))[:size].tolist()
    pieces, truth, at, last = [], [], 0, ""
    while at < seconds * SAMPLE_RATE:
        name = draw.choice([one for one in names if one != last])
        each = people[name]
        clip = each[draw.integers(len(each))]
        length = int(draw.uniform(*TURN) * SAMPLE_RATE)
        begin = int(draw.integers(max(1, clip.size - length)))
        turn = sounding(clip[begin : begin + length])
        if turn.size < TURN[0] * SAMPLE_RATE / 2:
            continue
        last = name
        pause = int(draw.uniform(*PAUSE) * SAMPLE_RATE)
        truth.append((at / SAMPLE_RATE, (at + turn.size) / SAMPLE_RATE, name))
        level = LEVEL / float(np.sqrt((turn**2).mean()))
        pieces += [turn * np.float32(level), np.zeros(pause, np.float32)]
        at += turn.size + pause
    samples = np.concatenate(pieces)
    return Conversation(size, samples + draw.normal(0, NOISE, samples.size).astype(np.float32), truth)


def heard(one: Conversation, networks: OnnxNetworks, *, given: bool = False) -> Found:
    return Found(one, _turns(one.samples, networks, one.speakers if given else None))


def _turns(samples: Samples, networks: OnnxNetworks, most: int | None = None) -> list[SpeakerTurn]:
    found = Diarizer(networks, most)
    for begin in range(0, samples.size, SAMPLES):
        found.hear(samples[begin : begin + SAMPLES])
    return found.finish()


def error_rate(found: Sequence[Found], collar: float = COLLAR) -> dict[str, float]:
    """Return the parts of the diarization error rate over all conversations, as pyannote.metrics counts them."""
    from pyannote.core import Annotation, Segment
    from pyannote.metrics.diarization import DiarizationErrorRate

    def annotation(turns: Sequence[tuple[float, float, str | int]]) -> Any:
        made = Annotation()
        for number, (start, end, who) in enumerate(turns):
            made[Segment(start, end), number] = str(who)
        return made

    metric = DiarizationErrorRate(collar=collar)
    for (_, samples, truth), turns in found:
        metric(annotation(truth), annotation(turns), uem=Segment(0, samples.size / SAMPLE_RATE))
    total = metric["total"]
    parts = {name: metric[name] / total for name in ("missed detection", "false alarm", "confusion")}
    return {"error": abs(metric), **parts}


def _errors(found: Mapping[bool, Sequence[Found]]) -> list[Row]:
    rows = []
    for given, limit in ((False, 12.0), (True, 8.0)):
        rate = error_rate(found[given])
        each = [
            f"{size}: {100 * error_rate([one for one in found[given] if one.conversation.speakers == size])['error']:.1f}"
            for size in SIZES
        ]
        parts = ", ".join(f"{name} {100 * rate[name]:.1f}" for name in rate if name != "error")
        wide = 100 * error_rate(found[given], 2 * COLLAR)["error"]
        what = f"error rate (DER), collar {COLLAR:g} s, speakers {'given' if given else 'not given'}"
        detail = f"{parts}; by speakers {', '.join(each)}; with {COLLAR:g} s on each side of an edge {wide:.1f}"
        rows.append(at_most(what, limit, 100 * rate["error"], "{:.1f} %", detail))
    few = [one for one in found[False] if one.conversation.speakers <= 4]
    right = [len({turn.speaker for turn in turns}) == one.speakers for one, turns in few]
    counts = ", ".join(f"{one.speakers}: {len({turn.speaker for turn in turns})}" for one, turns in found[False])
    what = "conversations of 2 to 4 with the right number of speakers"
    return [*rows, at_least(what, 80, 100 * float(np.mean(right)), "{:.0f} %", f"there: found {counts}")]


def _edges(networks: OnnxNetworks, people: Mapping[str, Sequence[Samples]]) -> list[Row]:
    most = max(people, key=lambda name: sum(map(len, people[name])))
    alone = np.resize(np.concatenate([np.pad(clip, (0, 6400)) for clip in people[most]]), int(LONG * SAMPLE_RATE))
    at = np.arange(60 * SAMPLE_RATE) / SAMPLE_RATE
    roots = np.array([0, 5, 7, 0])[(at // 2).astype(int) % 4]
    music = sum(np.sin(2 * np.pi * 220 * 2 ** ((roots + step) / 12) * at) for step in (0, 4, 7)) * (1 - at % 0.5)
    draw = np.random.default_rng(1)
    word = conversation(people, min(5, len(people) - 1), 11)
    others = sorted(set(people) - {name for _, _, name in word.truth})
    said = people[others[0]][0][: int(0.6 * SAMPLE_RATE)]
    with_word = np.concatenate([word.samples, LEVEL * said / np.sqrt((said**2).mean())])
    count = {
        "one speaker for 10 min": (1, alone),
        "silence": (0, np.zeros(60 * SAMPLE_RATE, np.float32)),
        "noise": (0, draw.normal(0, 0.02, 60 * SAMPLE_RATE)),
        "music": (0, 0.1 * music),
        "0.3 s": (1, people[most][0][: int(0.3 * SAMPLE_RATE)]),
        "5 speakers, and a sixth with one word": (6, with_word),
    }
    rows = []
    for what, (limit, samples) in count.items():
        turns = _turns(np.asarray(samples, np.float32), networks)
        rows.append(at_most(f"speakers in {what}", limit, len({turn.speaker for turn in turns}), "{:d}"))
    return rows


def _words(model: Model, people: Mapping[str, Sequence[Samples]]) -> list[Row]:
    """Count the words whose speaker is right, each by the turn in whose time its middle lies; who is who is chosen for the best."""
    from scipy.optimize import linear_sum_assignment

    right = words = changed = 0
    for one in conversations(people):
        plain, asked = (_transcribed(model, one.samples, diarize=diarize) for diarize in (False, True))
        changed += plain.text != asked.text
        names = sorted({name for _, _, name in one.truth})
        counts = np.zeros((len(names), 1 + max((word.speaker for word in asked.words), default=0)), int)
        for word in asked.words:
            if word.times is None:
                raise AssertionError("a word without times")
            middle = sum(word.times) / 2
            _, _, who = min(one.truth, key=lambda turn: max(turn[0] - middle, middle - turn[1]))
            words += 1
            if word.speaker >= 0:
                counts[names.index(who), word.speaker] += 1
        right += int(counts[linear_sum_assignment(counts, maximize=True)].sum())
    detail = f"{right:,} of {words:,} words, number of speakers not given"
    return [
        at_least("words with the right speaker", 93, 100 * right / max(1, words), "{:.1f} %", detail),
        at_most("conversations whose text asking changes", 0, changed, "{:d}"),
    ]


def _transcribed(model: Model, samples: Samples, *, diarize: bool) -> Transcript:
    path = paths.cache() / "speakers.wav"
    path.write_bytes(clips.as_file(samples, "WAV"))
    try:
        return model.transcribe(path, diarize=diarize)
    finally:
        path.unlink()


def _cost(client: AsrClient, samples: Samples) -> Row:
    """Compare a file's time through a server with and without ``diarize``."""
    path = paths.cache() / "speakers.wav"
    path.write_bytes(clips.as_file(samples, "WAV"))

    def timed(diarize: bool) -> Callable[[], Measured]:
        def measure() -> Measured:
            started = time.perf_counter()
            client.transcribe(path, diarize=diarize)
            return Measured([time.perf_counter() - started])

        return measure

    found = aims.compared({"without": timed(False), "with": timed(True)}, COST_SECONDS)
    path.unlink()
    gain = spread.ratio(found["with"].rounds, found["without"].rounds)
    medians = [spread.median(found[name].rounds) for name in ("without", "with")]
    detail = f"{medians[0]:.2f} -> {medians[1]:.2f} s, {gain}x, {aims.rounds(found['with'])}"
    return at_most(f"cost of speakers, {LONG / 60:.0f} min of 3", 1.35, gain.estimate, "{:.2f}x", detail)


GROWS = """
import sys
import numpy as np
from pathlib import Path
from asrloop.speakers.diarizer import Diarizer
from asrloop.speakers.networks import OnnxNetworks
speech = np.load(sys.argv[2], mmap_mode="r")
found = Diarizer(OnnxNetworks(Path(sys.argv[1])))
for number in range(int(float(sys.argv[3]) * 360)):
    begin = number * 160_000 % (speech.size - 160_000)
    found.hear(np.array(speech[begin : begin + 160_000]))
found.finish()
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(peak.split()[1]) / 1024)
"""


def _memory(directory: Path) -> Row:
    """Return how much more memory 4 h take than 1 h, each in a process of its own."""
    speech = paths.cache() / "speakers.npy"
    np.save(speech, np.concatenate([clips.read(path) for path in clips.speech_files()]))
    peaks = []
    for hours in (1, 4):
        command = [sys.executable, "-c", GROWS, str(directory), str(speech), str(hours)]
        peaks.append(float(subprocess.run(command, capture_output=True, check=True, text=True, timeout=600).stdout))
    speech.unlink()
    detail = f"{peaks[0]:.0f} -> {peaks[1]:.0f} MB, the process with nothing else in it"
    return at_most("memory of 4 h over 1 h", 200, peaks[1] - peaks[0], "{:.0f} MB", detail)


def _distances(people: Mapping[str, Sequence[Samples]], networks: OnnxNetworks) -> str:
    ours = diarizer.DISTANCE
    rows = []
    try:
        for distance in DISTANCES:
            diarizer.DISTANCE = distance
            found = [heard(one, networks) for one in conversations(people)]
            right = [len({turn.speaker for turn in turns}) == one.speakers for one, turns in found if one.speakers <= 4]
            name = f"{distance:.2f}{', ours' if distance == ours else ''}"
            rows.append([name, f"{100 * error_rate(found)['error']:.1f} %", f"{100 * float(np.mean(right)):.0f} %"])
    finally:
        diarizer.DISTANCE = ours
    return markdown.table(["distance", "error rate, speakers not given", "right number of 2 to 4"], rows)
