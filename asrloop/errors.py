"""Why an utterance ended without a transcript. The names are the engine's; the Triton model maps them to Triton's codes."""


class UtteranceError(Exception):
    """Base of everything an utterance can end with instead of a transcript."""

    outcome = "failed"
    """Label of the utterance in the metrics."""


class Overloaded(UtteranceError):
    """The inbox was full on arrival, or no slot came free in time."""

    outcome = "overloaded"


class Cancelled(UtteranceError):
    """The caller went away."""

    outcome = "cancelled"


class DeadlineExceeded(UtteranceError):
    """The caller's own time limit passed."""

    outcome = "deadline"


class EngineClosed(UtteranceError):
    """The engine was closed before the utterance was done."""

    outcome = "closed"


class DecodeFailed(UtteranceError):
    """The model failed on this utterance."""
