"""Prometheus metrics of the gateway. Names begin with asrloop_gateway_ and do not change."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the number of series, and nothing here uses them

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """Metrics of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "asrloop_gateway_requests",
            "Finished requests and sockets, by route and HTTP status; sockets that ended well have 101",
            ["route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "asrloop_gateway_request_seconds",
            "Seconds from the first byte of a request to the last of its response; for sockets, seconds they were open",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.bytes = Counter(
            "asrloop_gateway_received_bytes", "Bytes of audio received", ["route"], registry=self.registry
        )
        self.audio = Counter(
            "asrloop_gateway_audio_seconds", "Seconds of audio transcribed", ["route"], registry=self.registry
        )
        self.upload_bytes = Gauge(
            "asrloop_gateway_upload_bytes", "Bytes of the uploads in progress", registry=self.registry
        )
        self.running = Gauge(
            "asrloop_gateway_running", "Requests and sockets in progress", ["route"], registry=self.registry
        )

    def heard(self, route: str, size: int, seconds: float) -> None:
        """Count a chunk of live audio."""
        self.bytes.labels(route).inc(size)
        self.audio.labels(route).inc(seconds)
