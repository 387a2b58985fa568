"""Live audio: execute() hands chunks to their streams and returns; events go out on the request that started the stream."""

from __future__ import annotations  # pb_utils lacks the classes while Triton completes the configuration

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import triton_python_backend_utils as pb_utils

from asrloop import config
from asrloop.assembly import live_info, live_streams_for
from asrloop.audio import checked_rate
from asrloop.engine.metrics import Publisher
from asrloop.engine.options import parsed
from asrloop.engine.parameters import Door
from asrloop.errors import RequestError
from asrloop.live.metrics import LIVE_METRICS, LiveMetrics
from asrloop.tritonmodel.calls import parameters_of, tensors_of
from asrloop.tritonmodel.live import ReplyListener, check_loaded, decode_by, samples_of
from asrloop.tritonmodel.metrics import metric_families
from asrloop.tritonmodel.reply import Reply

START, END = pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START, pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END


class TritonPythonModel:
    """Holds the streams; one instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the detector, start the threads and the metrics."""
        self.directory = Path(args["model_repository"], args["model_version"])
        self.settings = config.load()
        self.metrics = LiveMetrics(lambda: len(self.streams))
        try:
            live_info(self.directory, self.settings)  # says what is missing before anybody starts a stream
            check = partial(check_loaded, pb_utils)
            decode = decode_by(pb_utils)
            self.streams = live_streams_for(self.directory, self.settings, decode, self.metrics, check)
        except (OSError, ValueError) as error:
            raise pb_utils.TritonModelException(str(error)) from error
        self.publisher = Publisher(self.metrics, metric_families(pb_utils), LIVE_METRICS)

    def execute(self, requests: Sequence[pb_utils.InferenceRequest]) -> None:
        """Take each request on, or refuse it."""
        for request in requests:
            reply = Reply(pb_utils, request)
            try:
                self.take_on(request, reply)
            except RequestError as error:
                reply.end(error)

    def take_on(self, request: pb_utils.InferenceRequest, reply: Reply) -> None:
        """Hand a chunk to its stream, which answers it; a start's ``reply`` tells the events. Raises RequestError."""
        key, flags, parameters = request.correlation_id(), request.flags(), parameters_of(request)
        is_start = bool(flags & START)
        if is_start:
            self.streams.claim(key)
        info = live_info(self.directory, self.settings, parameters.get("model", "")) if is_start else None
        options = parsed(parameters, Door.START if is_start else Door.CHUNK, info)
        samples = samples_of(tensors_of(request))
        if is_start:
            rate = checked_rate(parameters.get("sample_rate", 16_000))
            self.streams.start(key, ReplyListener(reply), rate, options)
        self.streams.hear(key, samples, None if is_start else partial(reply.end, None))
        if flags & END:
            self.streams.end(key)

    def finalize(self) -> None:
        """Answer what is left and end the threads."""
        self.streams.close()
        self.publisher.close()
