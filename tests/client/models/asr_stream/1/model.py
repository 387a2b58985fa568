"""A word for each quarter of a second of audio, a segment for each second; the parameters of START choose its faults.

A word is the mean of its samples, so that audio which is lost, doubled or out of order shows. `pace`: chunks are answered when
so many times real time has reached them; `backlog`: a stream that is further ahead of that is ended; `mute_after`: audio
behind that second has no words. With `word_times` a final has its words; the confidence of each is its mean.
"""

import json
import os
import threading
import time
from collections import deque

import numpy as np
import triton_python_backend_utils as pb_utils

START, END = pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START, pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END
FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
WORDS = 4


class Stream:
    def __init__(self, sender, parameters):
        self.sender = sender
        self.parameters = parameters
        self.rate = parameters["sample_rate"]
        self.samples = np.empty(0, np.float32)
        self.said = 0
        self.recognised = 0.0
        self.unanswered = deque()

    def answered(self, seconds):
        """Recognise `seconds` more, and answer the chunks that are reached."""
        self.recognised = min(self.recognised + seconds, len(self.samples) / self.rate)
        while self.unanswered and self.unanswered[0][0] <= self.recognised:
            self.unanswered.popleft()[1].send(flags=FINAL)

    def events(self, is_last):
        size = self.rate // WORDS
        count = len(self.samples) // size
        words = [f"{self.samples[i * size : (i + 1) * size].mean():.2f}" for i in range(count)]
        count = min(count, round(WORDS * self.parameters.get("mute_after", 1e9)))
        while self.said < count:
            self.said += 1
            yield self.event(words, self.said % WORDS == 0)
        if is_last and self.said % WORDS:
            yield self.event(words, True)

    def event(self, words, final):
        segment = (self.said - 1) // WORDS
        done = words[segment * WORDS : self.said]
        stable, tail = (done, []) if final else (done[:-1], done[-1:])
        return segment, " ".join(stable), " ".join(tail), final, self.said / WORDS


class TritonPythonModel:
    def initialize(self, args):
        # The backend's calls are not safe from several threads at once: they crash the server.
        self.lock = threading.Lock()
        self.streams, self.broken = {}, set()
        family = pb_utils.MetricFamily(
            name="stand_in_streams", description="Streams open", kind=pb_utils.MetricFamily.GAUGE
        )
        self.family, self.open = family, family.Metric(labels={})
        family = pb_utils.MetricFamily(
            name="stand_in_ended", description="Streams that got END", kind=pb_utils.MetricFamily.COUNTER
        )
        self.ended_family, self.ended = family, family.Metric(labels={})
        threading.Thread(target=self.reap, daemon=True).start()

    def execute(self, requests):
        for request in requests:
            with self.lock:
                self.take(request, request.get_response_sender())

    def take(self, request, sender):
        identity, flags = request.correlation_id(), request.flags()
        if flags & START:
            parameters = json.loads(request.parameters() or "{}")
            if parameters.get("key_terms") == "refuse\nthem":
                self.answer(sender, error="[bad_sequence] key_terms " + json.dumps(parameters["key_terms_boost"]))
                return
            if "refuse" in parameters:
                self.answer(sender, error=f"[{parameters['refuse']}] as asked")
                return
            self.streams[identity] = Stream(sender, parameters)
        stream = self.streams.get(identity)
        if identity in self.broken:  # an error of a chunk could come before the one that broke it
            sender.send(flags=FINAL)
            return
        if stream is None:
            self.answer(sender, error="[bad_sequence] a chunk without START")
            return
        given = [pb_utils.get_input_tensor_by_name(request, name) for name in ("WAV", "PCM")]
        (chunk,) = [each.as_numpy() for each in given if each is not None]
        chunk = chunk / np.float32(32768) if chunk.dtype == np.int16 else chunk
        stream.samples = np.concatenate([stream.samples, chunk.astype(np.float32)])
        if not flags & (START | END) and "pace" in stream.parameters:
            stream.unanswered.append((len(stream.samples) / stream.rate, sender))
            sender = None
        if len(stream.samples) / stream.rate - stream.recognised > stream.parameters.get("backlog", 1e9):
            stream.answered(1e9)
            self.answer(stream.sender, error="[overloaded] the stream is far ahead of its recognition")
            del self.streams[identity]
            return
        for segment, stable, tail, final, heard in stream.events(bool(flags & END)):
            tensors = {
                "SEGMENT": np.array([segment], np.int32),
                "STABLE": np.array([stable.encode()], np.object_),
                "TAIL": np.array([tail.encode()], np.object_),
                "FINAL": np.array([final]),
                "TIMES": np.array([segment, heard], np.float32),
            }
            if final and stream.parameters.get("word_times"):
                words, starts = stable.split(), segment + np.arange(len(stable.split()), dtype=np.float32) / WORDS
                tensors["WORDS"] = np.array([word.encode() for word in words], np.object_)
                tensors["WORD_TIMES"] = np.column_stack([starts, starts + np.float32(1 / WORDS)])
                tensors["WORD_CONFIDENCES"] = np.array([float(word) for word in words], np.float32)
            outputs = [pb_utils.Tensor(name, tensor) for name, tensor in tensors.items()]
            stream.sender.send(pb_utils.InferenceResponse(outputs))
        if stream.parameters.get("die_after", 1e9) <= len(stream.samples) / stream.rate:
            os._exit(1)
        if stream.parameters.get("break_after", 1e9) <= len(stream.samples) / stream.rate:
            error = pb_utils.TritonError("[failed] as asked", pb_utils.TritonError.INTERNAL)
            stream.sender.send(pb_utils.InferenceResponse(error=error), flags=FINAL)
            del self.streams[identity]
            self.broken.add(identity)
        elif flags & END:
            self.ended.increment(1)
            stream.answered(1e9)
            if not flags & START and sender is not None:
                sender.send(flags=FINAL)
                sender = None
            if "silent_end" not in stream.parameters:  # as asr_stream does, the stream's own answer ends behind END's
                stream.sender.send(flags=FINAL)
                del self.streams[identity]
        if not flags & START and sender is not None:
            sender.send(flags=FINAL)
        self.open.set(len(self.streams))

    def answer(self, sender, error):
        code = pb_utils.TritonError.INVALID_ARG if "[bad" in error else pb_utils.TritonError.UNAVAILABLE
        sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError(error, code)), flags=FINAL)

    def reap(self):
        while True:
            time.sleep(0.05)
            with self.lock:
                for identity, stream in list(self.streams.items()):
                    stream.answered(0.05 * stream.parameters.get("pace", 0))
                    if stream.sender.is_cancelled():
                        stream.sender.send(flags=FINAL)
                        del self.streams[identity]
                        self.open.set(len(self.streams))
