"""Mixes channels to mono. Where they cancel each other out, as in stereo of opposite phase, the loudest channel is taken instead.

Windows of a tenth of a second are decided one by one, so that no word is lost in a block that is loud elsewhere. Changes are faded,
and the choice stays until another is clearly better, so that nothing jumps.
"""

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

WINDOWS_A_SECOND = 10
FADES_A_SECOND = 100

CANCELS = 0.25
"""A mix with less than this share of the energy that its loudest channel alone would give it is the work of cancellation: other
channels that are silent or different take nothing away. A choice ends when its reason is 1 / CANCELS times weaker."""


class Mixer:
    """Mixes the blocks of one recording."""

    def __init__(self, rate: int) -> None:
        """``rate`` is in Hz."""
        self._window = max(1, rate // WINDOWS_A_SECOND)
        self._fade = max(1, rate // FADES_A_SECOND)
        self._choice = -1
        """The channel that is taken at the end of the last block; -1 for the mix."""

    def __call__(self, block: Samples) -> Samples:
        """Return a block, f32 [N, channels], as f32 [N]."""
        frames, channels = block.shape
        if channels == 1 or not frames:
            return np.ascontiguousarray(block[:, 0])
        mix = block @ np.full(channels, 1 / channels, np.float32)
        starts = np.linspace(0, frames, max(1, frames // self._window), endpoint=False).astype(int)
        columns, counts = np.column_stack([mix, block]), np.diff(starts, append=frames)[:, None]
        energies = np.add.reduceat(np.square(columns, dtype=np.float64), starts, axis=0)
        # Without the offset, which channels share even where their sound cancels out.
        energies = np.maximum(0, energies - np.square(np.add.reduceat(columns, starts, axis=0)) / counts)
        if self._choice < 0 and not _cancels(energies, channels).any():
            return mix
        mono = mix.copy()
        for start, end, energy in zip(starts, [*starts[1:], frames], energies, strict=True):
            before, self._choice = self._choice, self._next(energy, channels)
            if self._choice >= 0:
                mono[start:end] = block[start:end, self._choice]
            if self._choice != before:
                old = mix if before < 0 else block[:, before]
                until = min(end, start + self._fade)
                share = np.linspace(0, 1, until - start, endpoint=False, dtype=np.float32)
                mono[start:until] = share * mono[start:until] + (1 - share) * old[start:until]
        return mono

    def _next(self, energy: NDArray[np.float64], channels: int) -> int:
        loudest = int(energy[1:].argmax())
        if self._choice < 0:
            return loudest if _cancels(energy, channels) else -1
        if not _cancels(energy, channels, 1.0) and energy[0] > 0:
            return -1
        return loudest if energy[1 + self._choice] < CANCELS * energy[1 + loudest] else self._choice


def picked(channel: int, block: Samples) -> Samples:
    """Return one channel of a block, f32 [N, channels], as f32 [N]."""
    return np.ascontiguousarray(block[:, channel])


def _cancels(energies: NDArray[np.float64], channels: int, share: float = CANCELS) -> NDArray[np.bool_]:
    """Say of energies [..., 1 + channels], the mix first, whether the channels take from each other."""
    said: NDArray[np.bool_] = energies[..., 0] * channels**2 < share * energies[..., 1:].max(axis=-1)
    return said
