"""Ideas that are often proposed and were measured not to help here, each against the plain way, interleaved."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from asrloop.audio import Samples
from asrloop.families.moonshine.decoding import DECODER
from asrloop_bench.method import spread
from asrloop_bench.method.interleave import interleave, timed
from asrloop_bench.vendor import files
from asrloop_bench.vendor.loop import BOS, HEAD_SIZE, HEADS, LAYERS, open_loop, open_session


@dataclass(frozen=True)
class Trial:
    """One idea: the plain way's time, the idea's, and the ratio plain / idea (above 1: the idea is faster)."""

    idea: str
    plain_seconds: float
    idea_seconds: float
    gain: spread.Ratio
    saved_of_request: float
    """What the idea saves of a request of ten seconds of speech, as a share; negative when it costs."""


def small_tensor_pool(seconds: float, request_seconds: float, steps: int) -> Trial:
    """A step's ids, lengths and frames taken from a pool of arrays instead of made anew."""
    pool: list[NDArray[Any]] = [np.empty((16, 1), np.int64), np.empty(16, np.int32), np.empty(16, np.int32)]

    def fresh() -> None:
        np.zeros((16, 1), np.int64)
        np.zeros(16, np.int32)
        np.zeros(16, np.int32)

    def pooled() -> None:
        taken = [pool.pop() for _ in range(3)]
        for array in taken:
            array.fill(0)
        pool.extend(reversed(taken))

    return _trial(
        "a memory pool for the small tensors of a step", fresh, pooled, seconds, request_seconds / steps, repeat=2000
    )


def pcm_conversion(samples: Samples, seconds: float, request_seconds: float) -> Trial:
    """PCM16 to float by a lookup table of all 65536 values instead of NumPy's own conversion and division."""
    pcm = np.round(samples * 32767).astype(np.int16)
    values = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.float32) / np.float32(32768)
    out = np.empty(len(pcm), np.float32)

    def plain() -> None:
        pcm.astype(np.float32) / np.float32(32768)

    def table() -> None:
        np.take(values, pcm.view(np.uint16), out=out, mode="clip")

    return _trial("a hand-written PCM16 to float conversion", plain, table, seconds, request_seconds, repeat=20)


def iobinding(samples: Samples, seconds: float) -> Trial:
    """The vendor's decoder with inputs and outputs bound, K/V kept as OrtValues, against plain runs; one thread, whole loop."""
    vendor = open_loop(files.VENDOR_LOOP, 1)
    hidden = vendor.encode(samples)
    tokens = vendor.tokens(samples)
    session = open_session(files.VENDOR_LOOP / DECODER, 1)

    def plain() -> None:
        step = vendor.start(samples, hidden)
        for _ in tokens:
            step()

    def bound() -> None:
        for _ in zip(tokens, _bound_steps(session, samples, hidden), strict=False):
            pass

    check = [token for token, _ in zip(_bound_steps(session, samples, hidden), tokens, strict=False)]
    if check != tokens:
        raise ValueError("the bound loop gave other tokens than the plain one")
    return _trial("IOBinding alone on the vendor's graph", plain, bound, seconds, None)


def _bound_steps(session: ort.InferenceSession, samples: Samples, hidden: Samples) -> Iterator[int]:
    value = ort.OrtValue.ortvalue_from_numpy
    fixed: dict[str, Any] = {
        "encoder_attention_mask": value(np.ones((1, len(samples)), np.int64)),
        "encoder_hidden_states": value(hidden),
    }
    parts = [
        f"{layer}.{side}.{kind}"
        for layer in range(LAYERS)
        for side in ("decoder", "encoder")
        for kind in ("key", "value")
    ]
    cache = {part: value(np.zeros((1, HEADS, 0, HEAD_SIZE), np.float32)) for part in parts}
    token, first = BOS, True
    while True:
        binding = session.io_binding()
        inputs = {**fixed, **{f"past_key_values.{part}": held for part, held in cache.items()}}
        inputs["input_ids"] = value(np.array([[token]], np.int64))
        inputs["use_cache_branch"] = value(np.array([not first]))
        for name, held in inputs.items():
            binding.bind_ortvalue_input(name, held)
        wanted = [part for part in parts if first or "decoder" in part]
        names = ["logits", *(f"present.{part}" for part in wanted)]
        for name in names:
            binding.bind_output(name, "cpu")
        session.run_with_iobinding(binding)
        outputs = binding.get_outputs()
        cache.update(zip(wanted, outputs[1:], strict=True))
        token, first = int(outputs[0].numpy()[0, -1].argmax()), False
        yield token


def markdown(trials: Sequence[Trial]) -> str:
    """The trials as a table."""
    lines = ["| idea | plain | with the idea | times faster (95 %) | of a request |", "| --- | --- | --- | --- | --- |"]
    for trial in trials:
        gain = trial.gain
        lines.append(
            f"| {trial.idea} | {_time(trial.plain_seconds)} | {_time(trial.idea_seconds)} "
            f"| {gain} | {-trial.saved_of_request:+.2%} |"
        )
    return "\n".join(lines)


def _trial(
    idea: str,
    plain: Callable[[], object],
    other: Callable[[], object],
    seconds: float,
    whole: float | None,
    repeat: int = 1,
) -> Trial:
    """``whole`` is the time of what the measured piece is part of; None when the piece is the whole."""

    arms = {"plain": timed(plain, repeat), "idea": timed(other, repeat)}
    found = interleave(arms, least_rounds=5, most_rounds=300, seconds=seconds)
    before, after = (spread.median(found[name].rounds) for name in ("plain", "idea"))
    gain = spread.ratio(found["plain"].rounds, found["idea"].rounds)
    return Trial(idea, before, after, gain, (1 - 1 / gain.estimate) * before / (whole or before))


def _time(seconds: float) -> str:
    return f"{1e6 * seconds:.1f} µs" if seconds < 0.001 else f"{1000 * seconds:.1f} ms"
