"""`python -m asrloop_train DIR`: train the tiny TDT transducer on speech from espeak-ng and write it into DIR."""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from asrloop.audio import SAMPLE_RATE
from asrloop_train import evaluation, nemo_layout, speech, training


def main() -> int:
    """Train, write the model in the layout that onnx-asr publishes, and print its word error rate."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("destination", type=Path, help="directory for the model")
    arguments.add_argument("--minutes", type=float, default=40.0, help="training time; default %(default)s")
    arguments.add_argument("--utterances", type=int, default=5000, help="training utterances; default %(default)s")
    arguments.add_argument("--batch", type=int, default=16, help="utterances in a batch; default %(default)s")
    arguments.add_argument("--threads", type=int, default=2, help="threads of PyTorch; default %(default)s")
    arguments.add_argument("--seed", type=int, default=1, help="random seed; default %(default)s")
    options = arguments.parse_args()

    torch.set_num_threads(options.threads)
    utterances = speech.random_utterances(options.utterances, np.random.default_rng(options.seed), unseen=False)
    print(f"speaking {len(utterances)} utterances", flush=True)
    try:
        spoken = speech.speak_all(utterances)
    except FileNotFoundError:
        print("error: espeak-ng is not installed; on Debian: apt-get install espeak-ng", file=sys.stderr)
        return 1
    print(f"{sum(map(len, spoken)) / SAMPLE_RATE / 60:.0f} minutes of speech", flush=True)
    training.train(
        utterances,
        spoken,
        minutes=options.minutes,
        batch=options.batch,
        seed=options.seed,
        checkpoint=lambda encoder, decoder: nemo_layout.write(options.destination, encoder, decoder),
    )
    evaluation.write_samples(options.destination / "speech")
    rate = evaluation.word_error_rate(options.destination)
    print(f"word error rate on unseen speech: {100 * rate:.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
