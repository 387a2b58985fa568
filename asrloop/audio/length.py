"""How long a file is, what is missing of it, and what it costs."""


class Length:
    """Length of a file, in seconds, as far as it is read."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """By its headers."""
        self.missing = 0.0
        """What its headers claim and that is not there."""
        self.channels = 1
        """The most that any part of it has."""
        self.elsewhere = 0.0
        """Processor time that another process took for it."""

    def miss(self, seconds: float, torn: float) -> None:
        """Note that ``seconds`` are missing. Up to ``torn`` it is a last frame that is cut, which takes no words with it."""
        if seconds > torn:
            self.missing += seconds

    def warning(self) -> str:
        """Return what to tell where sound is missing."""
        return f"the file is cut short: {self.missing:.1f} s are missing by its header"
