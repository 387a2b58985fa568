"""The decode part of a transducer against onnx-asr, in one process on the same encoder outputs: time, and calls of graphs."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime as ort
import typer

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.families import offline, registry
from asrloop.families.transducer.decoders import SplitDecoder
from asrloop.families.transducer.greedy import EncodedSpeech
from asrloop.families.transducer.opening import open_transducer
from asrloop_bench.figures.figure import Run
from asrloop_bench.method import clips, spread
from asrloop_bench.method.interleave import Measured, interleave, timed

CALLERS = 16
LIMIT_SECONDS = 600.0
Arm = Callable[[], list[list[int]]]
"""Decodes all of the speech; returns the tokens of each utterance."""


def transducer(
    run: Run,
    speech: Annotated[list[Path], typer.Argument(help="WAV, FLAC or OGG files of 16 kHz mono, or directories.")],
    source: Annotated[
        Path | None, typer.Option("--from", help="NeMo directory. Default: random weights of Parakeet's size.")
    ] = None,
    rnnt: Annotated[bool, typer.Option("--rnnt", help="Random weights of an RNN-T instead of a TDT.")] = False,
    utterances: Annotated[int, typer.Option(help="Most utterances to decode.", min=1)] = 48,
    rounds: Annotated[int, typer.Option(help="Rounds to measure.", min=1)] = 5,
    threads: Annotated[int, typer.Option(help="Threads of ONNX Runtime in both arms.", min=1)] = 1,
) -> str:
    """The decode part of a transducer against onnx-asr, on the same encoder outputs."""
    found = [path for given in speech for path in (sorted(given.rglob("*")) if given.is_dir() else [given])]
    heard = [clips.read(path) for path in found if path.suffix in (".wav", ".flac", ".ogg")][:utterances]
    if not heard:
        raise ValueError(f"{', '.join(map(str, speech))}: no .wav, .flac or .ogg file; give some speech")
    run.section = "given model" if source else "random RNN-T" if rnnt else "random TDT"
    with tempfile.TemporaryDirectory() as scratch:
        if source is None:
            from asrloop_train import random_transducer  # an optional dependency, like onnx-asr below

            source = Path(scratch)
            sizes = random_transducer.Sizes(durations=0 if rnnt else 5)
            random_transducer.write(source, sizes, blank_share=0.9 if rnnt else 0.6)
        lines = report(source, heard, rounds, threads)
    block = "\n".join(f"    {line}" for line in lines)
    return f"\n{block}\n\n{rounds} interleaved rounds."


def report(source: Path, speech: Sequence[Samples], rounds: int, threads: int) -> list[str]:
    """Return lines with the medians of the arms over ``rounds`` interleaved rounds on ``speech``, each f32 [N], 16 kHz.

    ``source`` is a NeMo directory; both arms run ONNX Runtime on ``threads`` threads. Raises ValueError for one whose
    decoder cannot be split.
    """
    with tempfile.TemporaryDirectory() as prepared:
        registry.build("transducer", source, Path(prepared), progress=lambda _: None)
        family = open_transducer(
            Path(prepared), slots=CALLERS, max_audio_seconds=LIMIT_SECONDS, encoder_threads=threads, decoder_threads=threads
        )  # fmt: skip
    decoder = family.decoder
    if not isinstance(decoder, SplitDecoder):
        raise ValueError(f"{source}: its decoder cannot be split; there is nothing to compare")  # noqa: TRY004 - of the file
    reference = _onnx_asr(source, family.rules.has_durations, threads)
    encoded = [reference._encode(*reference._preprocessor(one[None], np.array([len(one)], np.int64))) for one in speech]
    calls: dict[str, int] = {}
    reference._decode = _counted(calls, "decoder_joint", reference._decode)
    decoder.prediction_joint_graph = _counted(calls, "both", decoder.prediction_joint_graph)
    decoder.prediction_graph = _counted(calls, "prediction", decoder.prediction_graph)
    decoder.joint_graph = _counted(calls, "joint", decoder.joint_graph)

    def theirs() -> list[list[int]]:
        return [list(tokens) for outputs, lens in encoded for tokens, _, _ in reference._decoding(outputs, lens)]

    def ours(callers: int) -> list[list[int]]:
        frames = (outputs[:, : int(lens[0])].transpose(0, 2, 1) for outputs, lens in encoded)
        utterances = (EncodedSpeech(decoder.frames(np.ascontiguousarray(one))) for one in frames)
        return [decoded.tokens for decoded in offline.decode(family, utterances, slots=callers)]

    arms: Mapping[str, Arm] = {
        "onnx-asr, one after another": theirs,
        "asrloop, 1 caller": lambda: ours(1),
        f"asrloop, {CALLERS} callers": lambda: ours(CALLERS),
    }
    tens = sum(map(len, speech)) / (10 * SAMPLE_RATE)
    counts: dict[str, str] = {}

    def arm(name: str) -> Measured:
        calls.clear()
        tokens: list[list[int]] = []
        measured = timed(lambda: tokens.extend(arms[name]()))()
        counts[name] = ", ".join(f"{count / tens:.0f} of {graph}" for graph, count in calls.items())
        measured.texts.add(str(tokens))
        return measured

    bound = {name: lambda name=name: arm(name) for name in arms}
    found = interleave(bound, least_rounds=rounds, most_rounds=rounds, seconds=0)
    first, *_ = found.values()
    lines = [f"{len(speech)} utterances, {10 * tens:.0f} s of speech; per 10 s of it:"]
    for name, one in found.items():
        gain = spread.ratio(first.rounds, one.rounds)
        milliseconds = 1000 * spread.median(one.rounds) / tens
        lines.append(f"{name:28}  {milliseconds:7.1f} ms  {gain.estimate:5.1f}x  calls: {counts[name]}")
    differing = [name for name, one in found.items() if one.texts != first.texts]
    lines.append(f"other tokens: {', '.join(differing)}" if differing else "all arms gave the same tokens")
    return lines


def _counted(calls: dict[str, int], name: str, call: Callable[..., Any]) -> Any:
    def counted(*arguments: object, **named: object) -> Any:
        calls[name] = calls.get(name, 0) + 1
        return call(*arguments, **named)

    return counted


def _onnx_asr(source: Path, has_durations: bool, threads: int) -> Any:
    """Open the onnx-asr model of the directory, with sessions like this project's."""
    import onnx_asr

    sessions = ort.SessionOptions()
    sessions.intra_op_num_threads = threads
    sessions.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model_type = "nemo-conformer-tdt" if has_durations else "nemo-conformer-rnnt"
    return onnx_asr.load_model(model_type, source, sess_options=sessions, providers=["CPUExecutionProvider"]).asr
