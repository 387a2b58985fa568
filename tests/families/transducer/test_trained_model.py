"""The trained tiny transducer understands speech of voices and texts that it was not trained on."""

import jiwer

from tests.families.conftest import Samples
from tests.families.transducer.conftest import SLOTS, TINY, Open
from tests.families.transducer.decoding import decode


def test_word_error_rate_is_under_five_percent(open_directory: Open, synthetic: list[tuple[str, Samples]]) -> None:
    family = open_directory(TINY)
    decoded = decode(family, [samples for _, samples in synthetic], SLOTS)
    texts = [family.text(one.tokens) for one in decoded]
    assert jiwer.wer([text for text, _ in synthetic], texts) < 0.05


def test_a_words_time_lies_within_the_speech(open_directory: Open, synthetic: list[tuple[str, Samples]]) -> None:
    family = open_directory(TINY)
    for (text, samples), decoded in zip(synthetic, decode(family, [one for _, one in synthetic], SLOTS), strict=True):
        starts = [
            time for token, time in zip(*decoded, strict=True) if family.rules.vocabulary[token].startswith("\u2581")
        ]
        assert starts == sorted(starts)
        assert not starts or starts[-1] < len(samples) / 16_000, text
