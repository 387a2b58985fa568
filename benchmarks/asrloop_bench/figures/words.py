"""Words: when each was said, what it costs to ask, and what terms that a caller expects do to rare words and to all others."""

from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from asrloop_client import AsrClient

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop_bench.figures import aims
from asrloop_bench.figures.accuracy import normalised
from asrloop_bench.figures.aims import Row, at_least, at_most
from asrloop_bench.figures.figure import Manifest, Run, speech
from asrloop_bench.figures.long_recordings import PAUSES, joined
from asrloop_bench.method import clips, spread
from asrloop_bench.method.clips import Reference
from asrloop_bench.method.interleave import Measured, callers, timed

GRACE = 0.1
"""Seconds by which a word may lie outside of its clip."""

SOUND, HOP = 3, 160
"""A clip's sound begins with so many loud frames of 10 ms in a row, and ends with so many."""

BELOW_PEAK, ABOVE_FLOOR = 35.0, 10.0
"""dB: a frame is loud that is no further below the loudest, and further above the quietest."""

CALLERS = 16
OTHERS = 20
MOST_TERMS = 100
TERM_SECONDS = 30.0
WORD_TIMES = {"word_times": True}


def words(
    run: Run,
    manifest: Manifest,
    frequent: Annotated[
        Path | None,
        typer.Option(help="The most frequent words of the language, one a line; without it no terms are measured."),
    ] = None,
) -> str:
    """Measure times of words against where clips lie and sound, and expected terms against the words of the references."""
    references = clips.references(manifest)
    with run.server() as server, AsrClient(server.grpc, timeout=300) as client:
        run.step("times")
        rows = [*_places(client, references), *_edges(client, references)]
        run.step("cost of times")
        rows += _costs(client)
        if frequent is not None:
            run.step("terms")
            common = set(frequent.read_text(encoding="utf-8").split())
            rows += _terms(client, references, common)
            run.step("cost of terms")
            rows += _costs_of_terms(
                client, sorted({word for one in references for word in normalised(one.text).split()})
            )
    return aims.table(rows)


def _places(client: AsrClient, references: Sequence[Reference]) -> list[Row]:
    """Count the words that lie in the clip in which they were said, in all clips joined."""
    recording = joined([one.samples for one in references], PAUSES)
    heard = client.transcribe(clips.as_file(recording.samples), parameters=WORD_TIMES)
    said = [(word, place) for place, one in enumerate(references) for word in normalised(one.text).split()]
    found = [normalised(word.text) for word in heard.words]
    right = total = 0
    for mine, its, count in SequenceMatcher(
        None, found, [word for word, _ in said], autojunk=False
    ).get_matching_blocks():
        for word, (_, place) in zip(heard.words[mine : mine + count], said[its : its + count], strict=True):
            begin, end = recording.speech[place]
            right += begin - GRACE <= word.start and word.end <= end + GRACE
            total += 1
    apart = all(one.end <= other.start + 1e-6 for one, other in pairwise(heard.words))
    detail = f"{right} of {total} words of {recording.seconds:.0f} s; {'none overlap' if apart else 'SOME OVERLAP'}"
    return [at_least("words that lie in the clip where they were said", 0.99, right / total, "{:.2%}", detail)]


def _edges(client: AsrClient, references: Sequence[Reference]) -> list[Row]:
    """Compare the first word's start and the last one's end of each clip with where its sound begins and ends."""
    begins: list[float] = []
    ends: list[float] = []
    heard = client.transcribe_many([one.samples for one in references], parameters=WORD_TIMES)
    for one, transcript in zip(references, heard, strict=True):
        if transcript.words:
            begin, end = _sound(one.samples)
            begins.append(transcript.words[0].start - begin)
            ends.append(transcript.words[-1].end - end)
    rows = []
    for name, apart in (("start of the first word", begins), ("end of the last word", ends)):
        sizes = [1000 * abs(each) for each in apart]
        detail = f"{1000 * spread.median(apart):+.0f} ms on average of the middle, {len(apart)} clips"
        rows.append(at_most(f"{name} against the sound, median", 60, spread.median(sizes), "{:.0f} ms", detail))
        rows.append(at_most(f"{name} against the sound, p90", 150, spread.percentile(sizes, 90), "{:.0f} ms"))
    return rows


def _sound(samples: Samples) -> tuple[float, float]:
    """Return where the sound of a clip begins and ends, in seconds, by its level alone."""
    frames = samples[: samples.size // HOP * HOP].reshape(-1, HOP)
    levels = 10 * np.log10((frames**2).mean(axis=1) + 1e-12)
    loud = levels > max(float(np.percentile(levels, 5)) + ABOVE_FLOOR, float(levels.max()) - BELOW_PEAK)
    runs = np.flatnonzero(np.convolve(loud, np.ones(SOUND), "valid") == SOUND)
    return float(runs[0]) * HOP / SAMPLE_RATE, float(runs[-1] + SOUND) * HOP / SAMPLE_RATE


def _costs(client: AsrClient) -> list[Row]:
    rows = []
    for seconds, limit in ((1.0, 0.12), (10.0, 0.08)):
        samples = speech(seconds)[seconds]
        rows.append(_cost(f"cost of times, {seconds:g} s alone", limit, _asking(client, samples), WORD_TIMES))
    samples = speech(10.0)[10.0]

    def crowd(parameters: dict[str, Any]) -> Callable[[], Measured]:
        return lambda: callers([lambda: client.transcribe(samples, parameters=parameters).text] * CALLERS, each=2)

    rows.append(_cost(f"cost of times, {CALLERS} callers of 10 s", 0.10, crowd, WORD_TIMES))
    return rows


def _costs_of_terms(client: AsrClient, said: Sequence[str]) -> list[Row]:
    drawn = np.random.default_rng(2).permutation([word for word in said if len(word) > 4])[:MOST_TERMS]
    terms = {"key_terms": "\n".join(drawn.tolist())}
    return [
        _cost(f"cost of {MOST_TERMS} terms, {seconds:g} s", 0.05, _asking(client, speech(seconds)[seconds]), terms)
        for seconds in (1.0, 10.0)
    ]


def _asking(client: AsrClient, samples: Samples) -> Callable[[dict[str, Any]], Callable[[], Measured]]:
    return lambda parameters: timed(lambda: client.transcribe(samples, parameters=parameters), repeat=3)


def _cost(
    what: str, limit: float, arm: Callable[[dict[str, Any]], Callable[[], Measured]], parameters: dict[str, Any]
) -> Row:
    """Compare an arm with ``parameters`` with the same arm without, interleaved."""
    found = aims.compared({"without": arm({}), "with": arm(parameters)}, TERM_SECONDS)
    gain = spread.ratio(found["with"].rounds, found["without"].rounds)
    medians = [1000 * spread.median(found[name].rounds) for name in ("without", "with")]
    detail = f"{medians[0]:.1f} -> {medians[1]:.1f} ms, {gain}x, {aims.rounds(found['with'])}"
    return at_most(what, limit, gain.estimate - 1, "{:+.1%}", detail)


class Wrong(NamedTuple):
    """Wrong and all words of the references: rare ones, and others with what was said too much."""

    rare: int
    of_rare: int
    other: int
    of_other: int

    @property
    def other_rate(self) -> float:
        return self.other / self.of_other


def _terms(client: AsrClient, references: Sequence[Reference], common: set[str]) -> list[Row]:
    """Give each clip its rare words and others' as terms, then only others'."""
    rare = [[word for word in normalised(one.text).split() if word not in common] for one in references]
    every = sorted({word for each in rare for word in each})
    draw = np.random.default_rng(1)
    others = [draw.permutation([word for word in every if word not in each])[:OTHERS].tolist() for each in rare]

    def heard(terms: Sequence[Sequence[str]]) -> Wrong:
        texts = []
        for one, given in zip(references, terms, strict=True):
            parameters = {"key_terms": "\n".join(dict.fromkeys(given))}
            texts.append(client.transcribe(one.samples, parameters=parameters).text)
        return wrong([one.text for one in references], texts, rare)

    without = heard([[] for _ in references])
    given = heard([[*mine, *its] for mine, its in zip(rare, others, strict=True)])
    misled = heard(others)
    detail = f"{without.rare} -> {given.rare} of {without.of_rare} words outside the {len(common)} most frequent"
    what = f"errors in rare words, given with {OTHERS} others"
    return [
        at_most(what, -0.35, given.rare / max(1, without.rare) - 1, "{:+.0%}", detail),
        _others("all other words", without, given),
        _others(f"all other words, {OTHERS} terms that were not said", without, misled),
        at_most("errors in rare words, terms that were not said", 0, misled.rare - without.rare, "{:+d}"),
    ]


def _others(what: str, before: Wrong, after: Wrong) -> Row:
    points = 100 * (after.other_rate - before.other_rate)
    return at_most(what, 0.2, points, "{:+.2f} points", f"{before.other} -> {after.other} errors of {before.of_other}")


def wrong(references: Sequence[str], texts: Sequence[str], rare: Sequence[Sequence[str]]) -> Wrong:
    """Count errors after normalisation; what was said too much counts as an error among other words."""
    import jiwer  # slow to import, and only needed here

    counts = np.zeros(4, int)
    for reference, text, mine in zip(references, texts, rare, strict=True):
        spoken = normalised(reference).split()
        if not spoken:
            continue
        for chunk in jiwer.process_words(" ".join(spoken), normalised(text)).alignments[0]:
            is_wrong = chunk.type != "equal"
            if chunk.type == "insert":
                counts[2] += chunk.hyp_end_idx - chunk.hyp_start_idx
            for word in spoken[chunk.ref_start_idx : chunk.ref_end_idx]:
                counts += (is_wrong, 1, 0, 0) if word in mine else (0, 0, is_wrong, 1)
    return Wrong(*counts.tolist())
