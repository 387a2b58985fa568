"""The decode loop as a Triton model: execute() submits and returns; the engine's reply thread answers each request once, late."""

import json
import threading
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from asrloop import config, errors, families, metrics
from asrloop.engine import Engine
from asrloop.scheduler import Scheduler
from asrloop.utterance import Utterance

PUBLISH_SECONDS = 0.1
FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    """Holds the engine; one instance, one engine."""

    def initialize(self, args):
        """Open the models, start the engine and the metrics."""
        settings = config.load()
        repository = Path(args["model_repository"]).parent
        mode = json.loads(args["model_config"])["parameters"]["execution_mode"]["string_value"]
        graphs = {"in_process": None, "bls": {name: BlsGraph(name) for name in ("encoder", "decoder")}}
        if mode not in graphs:
            raise pb_utils.TritonModelException(
                f"execution_mode is {mode!r}: it must be in_process or bls (config.pbtxt)"
            )
        try:
            self.family = families.open_family(repository, settings, graphs[mode])
        except (OSError, ValueError, RuntimeError) as error:
            raise pb_utils.TritonModelException(str(error)) from error
        self.metrics = metrics.EngineMetrics()
        scheduler = Scheduler(settings.engine.slots, settings.engine.inbox, settings.engine.queue_timeout_seconds)
        self.engine = Engine(self.family, scheduler, self.metrics)
        self.publisher = MetricsPublisher(self.metrics, scheduler)
        self.unanswered = set()

    def execute(self, requests):
        """Copy each request's rows (inputs die when this returns) and submit them.

        A request with the parameter ``cancel`` is none for a transcript: it ends the requests whose id it names. Triton
        does not pass a caller's cancellation on to an ensemble's step that runs already, so callers need this way.
        """
        for request in requests:
            cancel = json.loads(request.parameters() or "{}").get("cancel")
            if cancel is None:
                LateAnswer(request, self).submit()
            else:
                found = [answer for answer in tuple(self.unanswered) if answer.id == str(cancel)]
                count = self.engine.cancel(*(row for answer in found for row in answer.rows))
                sender = request.get_response_sender()
                sender.send(response_of([f"{count} cancelled"], [[]], [[]], [[]]), flags=FINAL)

    def finalize(self):
        """Answer what is left and end the threads."""
        self.engine.close()
        self.publisher.close()


def code_of(error):
    """Triton's code for why an utterance ended."""
    if isinstance(error, errors.Cancelled):
        return pb_utils.TritonError.CANCELLED
    if isinstance(error, errors.DecodeFailed):
        return pb_utils.TritonError.INTERNAL
    return pb_utils.TritonError.UNAVAILABLE


def response_of(texts, tokens, times, pieces):
    """The response with one row a text: TRANSCRIPTS [B, 1]; TOKENS, TOKEN_TIMES (padded with -1) and TOKEN_PIECES [B, longest]."""
    outputs = {
        "TRANSCRIPTS": np.array([text.encode() for text in texts], np.object_).reshape(-1, 1),
        "TOKENS": padded(tokens, np.int32, -1),
        "TOKEN_TIMES": padded(times, np.float32, -1),
        "TOKEN_PIECES": padded(pieces, np.object_, b""),
    }
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in outputs.items()])


def padded(rows, dtype, filling):
    """Rows of different lengths as one array."""
    array = np.full((len(rows), max(map(len, rows))), filling, dtype)
    for target, row in zip(array, rows, strict=True):
        target[: len(row)] = row
    return array


class LateAnswer:
    """One request until its response: the rows it was submitted as, and the sender."""

    def __init__(self, request, model):
        self.model = model
        self.sender = request.get_response_sender()
        self.sender_lock = threading.Lock()
        samples = pb_utils.get_input_tensor_by_name(request, "SAMPLES").as_numpy()
        lengths = pb_utils.get_input_tensor_by_name(request, "SAMPLE_LENS").as_numpy().reshape(-1)
        timeout = request.timeout()  # microseconds; 0 when the caller set none
        deadline = model.engine.clock() + timeout / 1e6 if timeout else None
        self.gone = False
        self.rows = [
            Utterance(row[:length].copy(), on_done=self.row_done, is_cancelled=self.is_cancelled, deadline=deadline)
            for row, length in zip(samples, lengths, strict=True)
        ]
        self.left = len(self.rows)
        self.id = request.request_id()

    def submit(self):
        self.model.unanswered.add(self)
        try:
            self.model.engine.submit(*self.rows)
        except errors.UtteranceError as error:
            for row in self.rows:
                row.error = error
                self.model.metrics.finished(row)
            self.fail(error)

    def is_cancelled(self):
        with self.sender_lock:
            self.gone = self.gone or (self.sender is not None and self.sender.is_cancelled())
        return self.gone

    def row_done(self, row):
        """On the reply thread only. A failing row takes its request's other rows along, and no other request's."""
        self.left -= 1
        self.gone = self.gone or row.error is not None
        if self.left == 0:
            error = next((row.error for row in self.rows if row.error is not None), None)
            self.fail(error) if error is not None else self.succeed()

    def fail(self, error):
        self.send(pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code_of(error))))

    def succeed(self):
        family = self.model.family
        self.send(
            response_of(
                [family.text(row.tokens) for row in self.rows],
                [row.tokens for row in self.rows],
                [row.times for row in self.rows],
                [[family.piece(token).encode() for token in row.tokens] if row.times else [] for row in self.rows],
            )
        )

    def send(self, response):
        # Triton frees what is_cancelled() reads once the response is sent; asking at that moment would take the server
        # down, hence the lock. The sender is let go here, because its destructor needs a server that is still there.
        with self.sender_lock:
            sender, self.sender = self.sender, None
            sender.send(response, flags=FINAL)
        self.model.unanswered.discard(self)


class BlsGraph:
    """Runs one ONNX model by a call through Triton."""

    def __init__(self, model_name):
        self.model_name = model_name

    def __call__(self, inputs):
        tensors = [pb_utils.Tensor(name, np.ascontiguousarray(value)) for name, value in inputs.items()]
        # An empty list of names asks for all outputs.
        request = pb_utils.InferenceRequest(model_name=self.model_name, requested_output_names=[], inputs=tensors)
        response = request.exec()
        if response.has_error():
            raise RuntimeError(f"{self.model_name}: {response.error().message()}")
        return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}


class MetricsPublisher:
    """Hands the engine's metrics to Triton's /metrics from a thread of its own: each call there is a trip to the server process."""

    def __init__(self, source, scheduler):
        kinds = {
            "counter": pb_utils.MetricFamily.COUNTER,
            "gauge": pb_utils.MetricFamily.GAUGE,
            "histogram": pb_utils.MetricFamily.HISTOGRAM,
        }
        self.source, self.scheduler = source, scheduler
        self.families, self.metrics = [], {}
        for spec in metrics.ENGINE_METRICS:
            family = pb_utils.MetricFamily(name=spec.name, description=spec.description, kind=kinds[spec.kind])
            self.families.append(family)
            for outcome in spec.outcomes or ("",):
                labels = {"outcome": outcome} if outcome else {}
                options = {"buckets": list(spec.buckets)} if spec.buckets else {}
                self.metrics[spec.name, outcome] = family.Metric(labels=labels, **options)
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, name="asrloop-metrics", daemon=True)
        self.thread.start()

    def run(self):
        while not self.stopped.wait(PUBLISH_SECONDS):
            self.publish()

    def publish(self):
        for change in self.source.take(len(self.scheduler.running)):
            metric = self.metrics[change.spec.name, change.outcome]
            if change.spec.kind == "histogram":
                metric.observe(change.value)
            elif change.spec.kind == "gauge":
                metric.set(change.value)
            else:
                metric.increment(change.value)

    def close(self):
        self.stopped.set()
        self.thread.join(5)
        self.publish()
        # Let go of Triton's metrics while the way to the server is open: their destructors use it.
        self.metrics.clear()
        self.families.clear()
