"""The responses to one request of Triton's, from whichever thread has them."""

import threading
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from asrloop.errors import RequestError


class Reply:
    """Sends what belongs to one request. After the last response nothing more is sent."""

    def __init__(self, pb_utils: Any, request: Any) -> None:
        self._pb_utils = pb_utils
        self._sender: Any = request.get_response_sender()
        # Triton frees what is_cancelled() reads once the last response is sent; asking at that moment would take the server down.
        self._lock = threading.Lock()

    def is_cancelled(self) -> bool:
        """Return True when the caller of this very model went away."""
        with self._lock:
            return self._sender is not None and bool(self._sender.is_cancelled())

    def tell(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Send a response that others follow."""
        response, kept = self._response(tensors)
        with self._lock:
            if self._sender is not None:
                self._sender.send(response)
        del kept

    def end(self, result: Mapping[str, NDArray[Any]] | RequestError | None) -> None:
        """Send the last response: tensors, an error with Triton's code for it, or nothing."""
        kept: list[Any] = []
        if isinstance(result, RequestError):
            code = getattr(self._pb_utils.TritonError, result.triton_code)
            response = self._pb_utils.InferenceResponse(error=self._pb_utils.TritonError(str(result), code))
        elif result is not None:
            response, kept = self._response(result)
        final = self._pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        with self._lock:
            # Let go of here, because its destructor needs a server that is still there.
            sender, self._sender = self._sender, None
            if sender is None:
                return
            if result is None:
                sender.send(flags=final)
            else:
                sender.send(response, flags=final)
        del kept

    def _response(self, tensors: Mapping[str, NDArray[Any]]) -> tuple[Any, list[Any]]:
        """Return it with a list of its tensors, to be kept until all is sent: those that nobody asked for send() lets go of without
        Python's lock, and the last to let go of a tensor frees Python's objects."""
        kept = [self._pb_utils.Tensor(*tensor) for tensor in tensors.items()]
        return self._pb_utils.InferenceResponse(kept), kept
