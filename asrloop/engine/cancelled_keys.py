"""Recently cancelled keys: a cancellation may overtake its request, which is still in an earlier step of an ensemble."""

from math import inf

MEMORY_SECONDS = 60.0
MOST = 1000


class CancelledKeys:
    """The most recent keys, for a limited time."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        """Time of each cancellation in seconds; oldest first."""

    def add(self, key: str, now: float) -> None:
        """Remember a key that is cancelled at ``now``, in seconds."""
        self._at.pop(key, None)
        self._at[key] = now
        while len(self._at) > MOST:
            del self._at[next(iter(self._at))]

    def __len__(self) -> int:
        return len(self._at)

    def has(self, key: str, now: float) -> bool:
        """Return True for a key that was cancelled less than MEMORY_SECONDS before ``now``."""
        return bool(key) and now - self._at.get(key, -inf) < MEMORY_SECONDS
