"""The ledger of unfinished work: each request's open utterances, first error and seconds of audio under way, in one place.

Policy only: no thread, no clock; the engine calls it under its lock.
"""

from collections.abc import Iterator

from asrloop.engine.recording import Recording
from asrloop.engine.request import Request
from asrloop.engine.utterance import Utterance
from asrloop.errors import RequestError


class _Account:
    """Unfinished work of one request."""

    def __init__(self) -> None:
        self.utterances: dict[Utterance, Recording] = {}
        """Unfinished utterances, and the recording of each."""
        self.unheard: set[Recording] = set()
        """Recordings of which more is to come than the utterances that are there: windows, or who spoke."""
        self.seconds = 0.0
        """Seconds of audio in its unfinished utterances."""


class Ledger:
    """Invariants: a request is open from :meth:`open` until it has no unfinished utterance and none will come; an utterance of an
    open request is unfinished from :meth:`add` until :meth:`close`; a request has at most one error, its first."""

    def __init__(self) -> None:
        self._accounts: dict[Request, _Account] = {}
        self._owners: dict[Utterance, Request] = {}

    def __iter__(self) -> Iterator[Request]:
        return iter(list(self._accounts))

    def __len__(self) -> int:
        return len(self._accounts)

    def open(self, request: Request) -> None:
        """Take a request on, with nothing under way yet."""
        account = self._accounts[request] = _Account()
        account.unheard.update(recording for recording in request.recordings if recording.has_more)

    def add(self, request: Request, recording: Recording, utterance: Utterance) -> float:
        """Note an utterance of an open request. Returns the request's seconds of audio under way, this one's among them."""
        account = self._accounts[request]
        account.utterances[utterance] = recording
        self._owners[utterance] = request
        account.seconds += utterance.audio_seconds
        return account.seconds

    def shorten(self, utterance: Utterance, seconds: float) -> None:
        """Note that an unfinished utterance has only so much audio."""
        self._accounts[self._owners[utterance]].seconds += seconds - utterance.audio_seconds
        utterance.audio_seconds = seconds

    def owner(self, utterance: Utterance) -> Request:
        """Return the request of an unfinished utterance."""
        return self._owners[utterance]

    def recording(self, utterance: Utterance) -> Recording:
        """Return the recording of an unfinished utterance."""
        return self._accounts[self._owners[utterance]].utterances[utterance]

    def under_way(self, request: Request, recording: Recording) -> int:
        """Return how many utterances of a recording are unfinished."""
        account = self._accounts.get(request)
        return sum(one is recording for one in account.utterances.values()) if account else 0

    def close(self, utterance: Utterance) -> None:
        """Note that an utterance is finished."""
        account = self._accounts[self._owners.pop(utterance)]
        del account.utterances[utterance]
        account.seconds -= utterance.audio_seconds

    def heard(self, request: Request, recording: Recording) -> None:
        """Note that nothing of a recording is to come but the ends of its utterances."""
        if request in self._accounts:
            self._accounts[request].unheard.discard(recording)

    def fail(self, request: Request, error: RequestError) -> list[Utterance]:
        """Give a request its first error, and return its unfinished utterances, which are to be ended. Does nothing later."""
        account = self._accounts.get(request)
        if account is None or request.error is not None:
            return []
        request.error = error
        account.unheard.clear()
        return list(account.utterances)

    def settle(self, request: Request) -> bool:
        """Close a request that has nothing left to do; True when that happened now."""
        account = self._accounts.get(request)
        if account is None or account.utterances or account.unheard:
            return False
        del self._accounts[request]
        return True
