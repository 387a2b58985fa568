"""Lines that the command cannot write are gone: they take no memory, and the next ones no more time."""

import io

import pytest

from asrloop import cli


class Full(io.StringIO):
    """Fails until there is room."""

    error: BaseException | None = None

    def write(self, text: str) -> int:
        if self.error:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SystemExit(1)], ids=["full", "nobody reads"])
def test_lines_that_cannot_be_written_are_not_kept(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Full()
    disk.error = error
    monkeypatch.setattr(cli.console, "file", disk)
    for number in range(3):
        cli._say(f"lost {number}")
    disk.error = None
    cli._say("kept")
    assert disk.getvalue() == "kept\n"
