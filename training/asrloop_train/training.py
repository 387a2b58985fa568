"""Training loop: batches of augmented synthetic speech, TDT loss, AdamW with a warm-up and a cosine schedule."""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asrloop.families.features.mel import build_mel
from asrloop_train.network import DecoderJoint, Encoder
from asrloop_train.speech import Noise, Sentence
from asrloop_train.tdt_loss import tdt_loss
from asrloop_train.vocabulary import BLANK, VOCABULARY, tokens_of

BANDS = 128
ENCODER_WIDTH = 144
PREDICTION_WIDTH = 96
JOINT_WIDTH = 128
BLOCKS = 6

# Subtracted from every token score in training, to favour longer durations (section 3.2 of the TDT paper).
UNDER_NORMALISATION = 0.05

Mel = Callable[[Sequence[NDArray[np.float32]]], tuple[Tensor, Tensor]]


def mel_front_end() -> Mel:
    """The exported front-end graph, so that training and serving have the same features."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(build_mel(BANDS).SerializeToString(), options)

    def run(samples: Sequence[NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
        lens = np.array([len(one) for one in samples], np.int64)
        waveforms = np.zeros((len(samples), lens.max()), np.float32)
        for row, one in zip(waveforms, samples, strict=True):
            row[: len(one)] = one
        features, features_lens = session.run(None, {"waveforms": waveforms, "waveforms_lens": lens})
        return torch.from_numpy(features), torch.from_numpy(features_lens)

    return run


def new_network() -> tuple[Encoder, DecoderJoint]:
    """Return an untrained transducer."""
    encoder = Encoder(BANDS, ENCODER_WIDTH, BLOCKS)
    return encoder, DecoderJoint(len(VOCABULARY), ENCODER_WIDTH, PREDICTION_WIDTH, JOINT_WIDTH)


def batch_loss(
    encoder: Encoder, decoder: DecoderJoint, features: Tensor, lengths: Tensor, texts: Sequence[Sequence[int]]
) -> Tensor:
    """Return the mean TDT loss for each label in the batch."""
    frames, frame_lengths = encoder(features, lengths)
    target_lengths = torch.tensor([len(text) for text in texts])
    targets = nn.utils.rnn.pad_sequence([torch.tensor(text) for text in texts], batch_first=True, padding_value=BLANK)
    predicted, _ = decoder.predict(torch.nn.functional.pad(targets, (1, 0), value=BLANK), None)
    logits = decoder.join(frames.transpose(1, 2), predicted)
    token_log_probs = logits[..., : len(VOCABULARY)].log_softmax(-1) - UNDER_NORMALISATION
    duration_log_probs = logits[..., len(VOCABULARY) :].log_softmax(-1)
    losses = tdt_loss(token_log_probs, duration_log_probs, targets, frame_lengths, target_lengths)
    return (losses / target_lengths).mean()


def train(
    utterances: Sequence[Sentence],
    speech: Sequence[NDArray[np.int16]],
    *,
    minutes: float,
    batch: int,
    seed: int,
    checkpoint: Callable[[Encoder, DecoderJoint], None],
) -> None:
    """Train for ``minutes``; ``checkpoint`` is called with the network at intervals and at the end."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    mel, noise = mel_front_end(), Noise(generator)
    encoder, decoder = new_network()
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=1e-3)
    begin, step, smooth = time.monotonic(), 0, 0.0
    saved = begin
    while (progress := (time.monotonic() - begin) / (60 * minutes)) < 1:
        chosen = generator.integers(0, len(utterances), batch)
        features, lengths = mel([noise.disturb(speech[index]) for index in chosen])
        _hide_patches(features, generator)
        texts = [tokens_of(utterances[index].words) for index in chosen]
        loss = batch_loss(encoder, decoder, features, lengths, texts)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 2.0)
        rate = 2e-3 * min(1.0, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
        step += 1
        smooth = loss.item() if step == 1 else 0.98 * smooth + 0.02 * loss.item()
        if step % 50 == 0:
            print(f"step {step}  {100 * progress:3.0f} %  loss a label {smooth:.3f}", flush=True)
        if time.monotonic() - saved > 240:
            saved = time.monotonic()
            checkpoint(encoder, decoder)
    checkpoint(encoder, decoder)


def _hide_patches(features: Tensor, generator: np.random.Generator) -> None:
    """Hide one band of frequencies and one of frames in each utterance (SpecAugment, Park et al. 2019)."""
    for row in features:
        low, first = generator.integers(0, BANDS - 16), generator.integers(0, max(1, row.shape[1] - 10))
        row[low : low + generator.integers(0, 17)] = 0.0
        row[:, first : first + generator.integers(0, 11)] = 0.0
