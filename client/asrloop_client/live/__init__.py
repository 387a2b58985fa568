"""Live audio: chunks go in while they are recorded, events come out while they are heard."""

from asrloop_client.live.chunks import END_SEGMENT, AnySource, Chunk, Source
from asrloop_client.live.events import StreamEvent
from asrloop_client.live.session import StreamOptions
from asrloop_client.live.stream import AsyncStream, Stream

__all__ = ["END_SEGMENT", "AnySource", "AsyncStream", "Chunk", "Source", "Stream", "StreamEvent", "StreamOptions"]
