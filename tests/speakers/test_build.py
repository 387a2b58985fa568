"""The networks are found in the vendor's library by what they are, not by where they lie."""

import hashlib

import pytest

from asrloop.speakers.build import Blob, found

MODEL = b"\x14\x00\x00\x00ORTM and what follows"


def test_a_model_is_found_by_its_identifier_and_checked() -> None:
    blob = Blob(len(MODEL), hashlib.sha256(MODEL).hexdigest())
    assert found(b"...." + MODEL[:9] + b"other" + MODEL + b"rest", blob) == MODEL


def test_another_library_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no model with the sha256 .*run `asrloop models` again"):
        found(b"...." + MODEL, Blob(len(MODEL), "0" * 64))
