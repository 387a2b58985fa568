"""Answers with the number of samples, their sum and their rate, `sleep_ms` later, or with the error that `outcome` names."""

import json
import threading
import time

import numpy as np
import triton_python_backend_utils as pb_utils

ERRORS = {
    "invalid": ("INVALID_ARG", "[invalid_audio] WAV is refused"),
    "overloaded": ("UNAVAILABLE", "[overloaded] the inbox is full (64 requests)"),
    "failed": ("INTERNAL", "[failed] the decoder broke"),
}


class TritonPythonModel:
    def initialize(self, args):
        # The backend's calls are not safe from several threads at once: they crash the server.
        self.lock = threading.Lock()
        family = pb_utils.MetricFamily(
            name="stand_in_cancelled", description="Requests cancelled", kind=pb_utils.MetricFamily.COUNTER
        )
        self.cancelled_family, self.cancelled = family, family.Metric(labels={})
        family = pb_utils.MetricFamily(
            name="stand_in_running", description="Requests that run now", kind=pb_utils.MetricFamily.GAUGE
        )
        self.running_family, self.running = family, family.Metric(labels={})

    def execute(self, requests):
        for request in requests:
            samples = pb_utils.get_input_tensor_by_name(request, "WAV").as_numpy()
            text = f"{samples.size} {float(samples.sum()):g}"
            arguments = (request.get_response_sender(), text, json.loads(request.parameters() or "{}"))
            threading.Thread(target=self.answer, args=arguments, daemon=True).start()

    def answer(self, sender, text, parameters):
        self.gauge(1)
        end = time.monotonic() + parameters.get("sleep_ms", 0) / 1000
        while time.monotonic() < end and not self.is_cancelled(sender):
            time.sleep(0.005)
        self.gauge(-1)
        with self.lock:
            response = self.response(sender, text, parameters)
            sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def gauge(self, change):
        with self.lock:
            self.running.increment(change)

    def is_cancelled(self, sender):
        with self.lock:
            return sender.is_cancelled()

    def response(self, sender, text, parameters):
        if sender.is_cancelled():
            self.cancelled.increment(1)
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("cancelled", pb_utils.TritonError.CANCELLED))
        if "outcome" in parameters:
            code, message = ERRORS[parameters["outcome"]]
            error = pb_utils.TritonError(message, getattr(pb_utils.TritonError, code))
            return pb_utils.InferenceResponse(error=error)
        text = f"{text} {parameters.get('sample_rate', 16000)}".encode()
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("TRANSCRIPTS", np.array([[text]], dtype=np.object_)),
                pb_utils.Tensor("TOKENS", np.array([[7, 8, -1]], dtype=np.int32)),
            ]
        )
