"""Decode part of a transducer, against onnx-asr in the same process on the same encoder output: time and calls of graphs."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_asr
import onnxruntime as ort
import soundfile
from numpy.typing import NDArray

from asrloop.export import nemo
from asrloop.families.transducer import EncodedSpeech, Transducer
from asrloop.families.transducer_decoder import SplitDecoder
from asrloop.families.transducer_files import open_transducer
from asrloop_train import random_transducer

CALLERS = 16


class CountedCalls:
    """A callable that counts its calls."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call, self.count = call, 0

    def __call__(self, *arguments: object, **named: object) -> Any:
        """Pass the call on."""
        self.count += 1
        return self.call(*arguments, **named)


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("speech", type=Path, nargs="+", help="WAV, FLAC or OGG files of 16 kHz mono, or directories")
    arguments.add_argument(
        "--from", dest="source", type=Path, help="NeMo directory; without it random weights of Parakeet's size"
    )
    arguments.add_argument("--rnnt", action="store_true", help="random weights of an RNN-T")
    arguments.add_argument("--utterances", type=int, default=48, help="default %(default)s")
    arguments.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    arguments.add_argument("--threads", type=int, default=1, help="of ONNX Runtime in both arms; default %(default)s")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        source = options.source
        if source is None:
            source = Path(temporary) / "random"
            sizes = random_transducer.Sizes(durations=0 if options.rnnt else 5)
            random_transducer.write(source, sizes, blank_share=0.9 if options.rnnt else 0.6)
        measure(source, Path(temporary) / "repository", list(_speech(options.speech))[: options.utterances], options)


def measure(source: Path, repository: Path, speech: Sequence[NDArray[np.float32]], options: argparse.Namespace) -> None:
    """Compare the arms on ``speech`` (f32, 16 kHz), interleaved, and print medians."""
    nemo.build(source, repository)
    family = open_transducer(
        repository / "encoder" / "1",
        repository / "decoder" / "1",
        slots=CALLERS,
        encoder_threads=options.threads,
        decoder_threads=options.threads,
    )
    reference = _onnx_asr(source, family.rules.has_durations, options.threads)
    encoded = [reference._encode(*reference._preprocessor(one[None], np.array([len(one)], np.int64))) for one in speech]
    reference._decode = CountedCalls(reference._decode)
    if not isinstance(family.decoder, SplitDecoder):
        raise SystemExit(f"{source}: its decoder cannot be split; there is nothing to compare")
    prediction = family.decoder.prediction_graph = CountedCalls(family.decoder.prediction_graph)
    joint = family.decoder.joint_graph = CountedCalls(family.decoder.joint_graph)
    both = family.decoder.prediction_joint_graph = CountedCalls(family.decoder.prediction_joint_graph)

    def one_after_another() -> list[list[int]]:
        return [list(tokens) for outputs, lens in encoded for tokens, _, _ in reference._decoding(outputs, lens)]

    def ours(callers: int) -> list[list[int]]:
        return decode(family, [outputs[:, : int(lens[0])] for outputs, lens in encoded], callers)

    arms: Mapping[str, Callable[[], list[list[int]]]] = {
        "onnx-asr, one after another": one_after_another,
        "asrloop, 1 caller": lambda: ours(1),
        f"asrloop, {CALLERS} callers": lambda: ours(CALLERS),
    }
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    calls: dict[str, str] = {}
    tens = sum(map(len, speech)) / 160_000
    results = []
    for _ in range(options.rounds):
        for name, arm in arms.items():
            reference._decode.count = prediction.count = joint.count = both.count = 0
            started = time.perf_counter()
            results.append(arm())
            seconds[name].append(time.perf_counter() - started)
            if reference._decode.count:
                calls[name] = f"{reference._decode.count / tens:.0f} calls of decoder_joint"
            else:
                counts = (both.count / tens, prediction.count / tens, joint.count / tens)
                calls[name] = "{:.0f} of both, {:.0f} of prediction, {:.0f} of joint".format(*counts)
    base = statistics.median(seconds["onnx-asr, one after another"])
    tokens = sum(map(len, results[0]))
    print(f"{len(speech)} utterances, {10 * tens:.0f} s of speech, {tokens} tokens, {125 * tens:.0f} frames")
    for name in arms:
        median = statistics.median(seconds[name])
        print(f"{name:28}  {1000 * median / tens:7.1f} ms  {base / median:5.1f}x  {calls[name]} per 10 s")
    different = sum(result != results[0] for result in results)
    print("all arms gave the same tokens" if not different else f"{different} of {len(results)} runs gave other tokens")


def decode(family: Transducer, encoded: Sequence[NDArray[np.float32]], callers: int) -> list[list[int]]:
    """Tokens of encoder outputs f32 [1, T, D], ``callers`` side by side, the next one starting as soon as one ends."""
    tokens: list[list[int]] = [[] for _ in encoded]
    waiting = iter(enumerate(encoded))
    running: dict[int, int] = {}
    free = list(range(callers))
    while True:
        while free and (item := next(waiting, None)) is not None:
            slot = free.pop(0)
            running[slot], outputs = item
            family.admit(slot, EncodedSpeech(family.decoder.frames(np.ascontiguousarray(outputs.transpose(0, 2, 1)))))
        if not running:
            return tokens
        slots = sorted(running)
        for slot, emission in zip(slots, family.step(slots), strict=True):
            tokens[running[slot]].extend(emission.tokens)
            if emission.done:
                del running[slot]
                free.append(slot)


def _onnx_asr(source: Path, has_durations: bool, threads: int) -> Any:
    """The onnx-asr model of the directory, with sessions as ours has them."""
    sessions = ort.SessionOptions()
    sessions.intra_op_num_threads = threads
    sessions.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model_type = "nemo-conformer-tdt" if has_durations else "nemo-conformer-rnnt"
    return onnx_asr.load_model(model_type, source, sess_options=sessions, providers=["CPUExecutionProvider"]).asr


def _speech(paths: Sequence[Path]) -> Iterator[NDArray[np.float32]]:
    for path in paths:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.suffix not in (".wav", ".flac", ".ogg"):
                continue
            samples, rate = soundfile.read(file, dtype="float32")
            if rate == 16_000 and samples.ndim == 1:
                yield np.asarray(samples, np.float32)


if __name__ == "__main__":
    main()
