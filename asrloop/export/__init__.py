"""From the weights of a Moonshine model to the files that the decode engine runs."""

from asrloop.export.build import build

__all__ = ["build"]
