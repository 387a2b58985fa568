"""Endings of audio files: one list for server, client, page, bulk example and docs."""

import re
from pathlib import Path

from asrloop_client.audio import SUFFIXES

from asrloop.audio import containers

ROOT = Path(__file__).parents[1]


def test_everybody_has_the_same_list() -> None:
    assert containers.SUFFIXES == SUFFIXES
    page = (ROOT / "gateway/asrloop_gateway/page/index.html").read_text()
    accepted = re.search(r'<input id="files" type="file" multiple accept="([^"]*)">', page)
    assert accepted is not None
    assert tuple(accepted[1].split(",")) == SUFFIXES
    assert "from asrloop.audio.containers import SUFFIXES" in (ROOT / "examples/bulk_ray.py").read_text()
    listed = " ".join(f"`{suffix}`" for suffix in SUFFIXES)
    assert listed in (ROOT / "docs/files.md").read_text()
