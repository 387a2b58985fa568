"""Decodes files by FFmpeg (PyAV), each in a process of its own that can open no file and no connection.

This is a program: the server starts it, and the gateway, a package of its own, an equal one. It loads FFmpeg, and forks for each
file, so that a file costs a fork and not a start, nothing of one file is there for the next, and a crash ends that file alone.

It is told what to do through standard input, a socket that keeps messages whole (``START``, ``STOP``). A forked process writes
messages to the socket that came with its file: ``HEAD`` and the rest of it.
"""

import gc
import io
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, NoReturn

if TYPE_CHECKING:  # in the program it is loaded when its place is known
    import av

COMMAND = struct.Struct("<cQ16s")
"""What to do, the number of the file, and, to start, the name of FFmpeg's demuxer. With START and LIVE come two descriptors: the
file, or a socket where it arrives, and a socket for what is decoded."""
START, LIVE, STOP = b"+", b"~", b"-"

HEAD = struct.Struct("<cI")
"""Kind of a message and its size."""
BEGUN, FORMAT, SAMPLES, END, REFUSED = b"b", b"f", b"s", b"e", b"x"
"""BEGUN: the process id, i32. FORMAT: what SOUND says. SAMPLES: f32 [N, channels]. END: missing seconds, f64. REFUSED: a reason,
UTF-8."""
SOUND = struct.Struct("<IIq")
"""Sample rate, channels, samples per channel by the container's word; 0 where it does not say."""

NO_TRACK, CODEC = "no audio track", "codec "
"""Reasons that the other side words better."""

CODECS = (
    "aac", "ac3", "adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "alac", "amrnb", "amrwb", "eac3", "flac", "mp2", "mp2float", "mp3",
    "mp3float", "opus", "pcm_alaw", "pcm_f32be", "pcm_f32le", "pcm_mulaw", "pcm_s16be", "pcm_s16le", "pcm_s24be", "pcm_s24le",
    "pcm_s32be", "pcm_s32le", "pcm_s8", "pcm_u8", "speex", "vorbis", "wmapro", "wmav1", "wmav2", "wmavoice",
)  # fmt: skip
"""Decoders that may be used."""

MOST_SAMPLES = 1 << 62
"""More are not claimed, whatever the container says."""

MEMORY = 192 << 20
"""Bytes of address space that a file may take beyond those of FFmpeg itself."""

MESSAGE_SECONDS = 2.0
LIVE_MESSAGE_SECONDS = 0.1
"""Sound of one message."""

LIVE_STEP_SECONDS = 10
"""Processor time between two reads of what arrives; one that takes more is ended. Of a file the other side counts it."""

LIVE_OPTIONS = {"probesize": "32", "analyzeduration": "1"}
"""What arrives is decoded at once: its header says enough."""

SHORTEST_SILENCE = 0.1
"""Seconds by which times may be ahead of the sound until it is filled with silence. FFmpeg's own resampler has the same limit."""
LONGEST_SILENCE, LIVE_LONGEST_SILENCE = 3600.0, 60.0
"""A time that is further ahead is wrong."""

SKIPPED_SHARE, SKIPPED_BYTES = 0.1, 128
"""Bytes that were passed over held sound where there are more, and more than this share of what the time would take: what is around
packets is less."""
PLACED = ("flv", "matroska", "mov")
"""FFmpeg's names of formats of which it says where each packet lies."""
RAW_SECONDS = 0.5
"""Sound of the bytes that may be passed over without a word where there are only packets: tags lie between them."""

RAW = ("aac", "amr")
"""FFmpeg's names of formats that are packets one behind the other, and say neither a length nor times."""

TORN_PACKETS = 2
"""Packets that may be missing without a word: the last one that is cut, and what an encoder puts before the sound."""


_A_WAV = struct.pack(
    "<4sI4s4sIHHIIHH4sI", b"RIFF", 52, b"WAVE", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16, b"data", 16
) + bytes(16)


class Refused(Exception):
    """A file without sound that can be decoded."""


def main() -> NoReturn:
    """Fork for each file until standard input ends."""
    # Ctrl-C goes to all; the other side ends in its own time, and this program then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path.insert(0, sys.argv[1])
    for _ in decoded(io.BytesIO(_A_WAV), "wav"):  # loads all of PyAV, once for all that are forked, which cannot
        pass
    gc.freeze()  # or a collection would touch, and so copy, the pages that processes share
    control = socket.socket(fileno=0)
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: PTH123, SIM115 - few imports
    running: dict[int, int] = {}
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, COMMAND.size, 2)
        if not message:
            break
        what, number, name = COMMAND.unpack(message)
        if what in (START, LIVE):
            try:
                pid = os.fork()
            except OSError:  # no memory, or too many processes: the other side sees that this file has none
                pid = -1
            if not pid:
                control.close()
                _decode_and_exit(descriptors, name.rstrip(b"\0").decode(), size + MEMORY, is_live=what == LIVE)
            if pid > 0:
                running[number] = pid
            for each in descriptors:
                os.close(each)
        elif number in running:
            _end(running.pop(number))
    for pid in running.values():
        _end(pid)
    os._exit(0)


def _end(pid: int) -> None:
    """End a process that may have ended by itself: as long as nobody waited for it no other has its id."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _decode_and_exit(descriptors: list[int], demuxer: str, memory: int, *, is_live: bool) -> NoReturn:
    try:
        out = socket.socket(fileno=descriptors[1])
        file = _Arriving(descriptors[0]) if is_live else os.fdopen(descriptors[0], "rb", buffering=0)
        for limit, most in (
            (resource.RLIMIT_AS, memory),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_NOFILE, 0),  # neither a file nor a socket can be opened from here on
        ):
            resource.setrlimit(limit, (most, most))
        _send(out, BEGUN, struct.pack("<i", os.getpid()))
        try:
            for kind, content in decoded(file, demuxer, is_live=is_live):
                _send(out, kind, content)
        except Exception as error:  # the other side says it to the caller
            said = isinstance(error, Refused) or not str(error)
            reason = getattr(error, "strerror", None) or (str(error) if said else f"{type(error).__name__}: {error}")
            _send(out, REFUSED, reason[:500].encode())
    finally:
        os._exit(0)  # without what Python does at its end: that belongs to the process that forked


def _send(out: socket.socket, kind: bytes, content: bytes) -> None:
    out.sendall(HEAD.pack(kind, len(content)))
    out.sendall(content)


class _Arriving(io.RawIOBase):
    """A file that arrives through a socket. It cannot be read again."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._is_over = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Wait for bytes; there are none only at the end."""
        content = b"" if self._is_over else os.read(self._descriptor, size)
        if not self._is_over:
            signal.setitimer(signal.ITIMER_PROF, LIVE_STEP_SECONDS)
        self._is_over = not content
        return content


def decoded(file: io.RawIOBase | BinaryIO, demuxer: str, *, is_live: bool = False) -> Iterator[tuple[bytes, bytes]]:
    """Yield the messages for the first audio track of a file. Raises Refused, and what PyAV raises."""
    import av

    def nothing(*_: object) -> NoReturn:
        raise PermissionError("no other file is opened")

    options = {"protocol_whitelist": "", "codec_whitelist": ",".join(CODECS), "format_whitelist": demuxer}
    if is_live:
        options |= LIVE_OPTIONS
    # With these FFmpeg cannot decode video even to find out what it is: none of its decoders is allowed.
    container = av.open(
        file, "r", format=demuxer, container_options=options, io_open=nothing, metadata_errors="replace"
    )
    if not container.streams.audio:
        raise Refused(NO_TRACK)
    track = container.streams.audio[0]
    for other in container.streams:
        if other is not track:
            other.discard = av.stream.Discard.all
    decoder = track.codec_context
    if decoder is None or decoder.name not in CODECS:
        raise Refused(CODEC + (decoder.name if decoder else "unknown"))
    decoder.thread_count = 1
    sound = _Sound(
        decoder.name,
        is_live=is_live,
        is_timed=container.format.name not in RAW,
        is_placed=container.format.name in PLACED and len(container.streams) == 1,
    )
    for frame in _frames(container, track, sound, file):
        if sound.rate == 0:
            sound.begin(frame)
            claimed, offset = _claimed(container, track), sound.silent(_offset(container, track))
            claims = round((claimed + offset if claimed else 0.0) * sound.rate)
            yield FORMAT, SOUND.pack(sound.rate, sound.channels, min(claims, MOST_SAMPLES))
            yield from sound.silence(offset)
        yield from sound.add(frame)
    if sound.rate == 0:
        raise Refused("nothing of it can be decoded")
    if message := sound.taken():
        yield SAMPLES, message
    if container.format.name in RAW and file.seekable():
        sound.miss_bytes(os.fstat(file.fileno()).st_size)
    yield END, struct.pack("<d", sound.missing(_claimed(container, track)))


def _frames(
    container: "av.container.InputContainer", track: "av.AudioStream", sound: "_Sound", file: io.RawIOBase | BinaryIO
) -> "Iterator[av.AudioFrame]":
    """Yield the frames of a track as far as they can be read, and count what cannot."""
    import av

    packets, unit = container.demux(track), float(track.time_base or 0)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            if sound.rate == 0:
                raise
            if file.seekable():  # what is left is about as long as its bytes say
                read, size = file.tell(), os.fstat(file.fileno()).st_size
                sound.lost += sound.samples / sound.rate * (size - read) / max(1, read)
            packet = None
        if packet is None:
            return
        step = packet.duration or 0
        sound.longest_packet = max(sound.longest_packet, step * unit)
        sound.met(packet)
        try:
            yield from packet.decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError:  # those behind it may be whole
            sound.lost += step * unit


def _offset(container: "av.container.InputContainer", track: "av.AudioStream") -> float:
    """Return the seconds after which the sound begins, counted as players do: from where the first of all tracks begins."""
    import av

    if track.start_time is None or container.start_time is None:
        return 0.0
    return float(track.start_time * (track.time_base or 0)) - container.start_time / av.time_base


def _claimed(container: "av.container.InputContainer", track: "av.AudioStream") -> float:
    """Return the seconds of sound that the container's headers claim; 0 where they do not say it of this track."""
    import av

    name = container.format.name
    if name in RAW:  # FFmpeg guesses it from the size
        return 0.0
    unit = track.time_base or 0
    start = max(0.0, float((track.start_time or 0) * unit))
    if tag := track.metadata.get("DURATION"):  # Matroska: 00:00:11.008000000, when the track ends
        try:
            hours, minutes, seconds = map(float, tag.split(":"))
        except ValueError:
            return 0.0
        return max(0.0, hours * 3600 + minutes * 60 + seconds - start)
    if track.duration:
        return max(0.0, float(track.duration * unit))
    if container.duration and len(container.streams) == 1:
        return max(0.0, container.duration / av.time_base - start)
    return 0.0


class _Sound:
    """Frames of one track as f32 [N, channels], at the rate and in the channels of the first, with silence where none was recorded:
    times count from the beginning of the recording."""

    def __init__(self, codec: str, *, is_live: bool, is_timed: bool, is_placed: bool) -> None:
        """``is_timed`` where frames have times that were recorded; ``is_placed`` where the bytes between packets are known to be of
        none, not of other tracks."""
        self._codec, self._is_timed, self._is_placed = codec, is_timed, is_placed
        self._message_seconds = LIVE_MESSAGE_SECONDS if is_live else MESSAGE_SECONDS
        self._longest_silence = LIVE_LONGEST_SILENCE if is_live else LONGEST_SILENCE
        self.rate = self.channels = self.samples = 0
        """``samples``: of the frames, per channel."""
        self.lost = self.longest_packet = 0.0
        """Seconds: of packets that are damaged, and of the longest packet."""
        self._pauses = self._gaps = self._behind = self._end = 0.0
        """Seconds without frames: in which nothing was recorded, of which the sound is lost, and those before the last frame that
        are too short to be filled; and when the sound ends, with its silence."""
        self._sizes = self._skipped = self._unheard = self._position = 0
        """Bytes: of all packets, between those that gave the last and the next frame, of one that gave none yet, and where the last
        packet ends."""
        self._held = bytearray()
        self._layout = ""
        self._unit = 0.0
        self._convert: tuple[tuple[object, ...], av.AudioResampler] | None = None

    def begin(self, frame: "av.AudioFrame") -> None:
        self.rate, self.channels, self._layout = frame.sample_rate, frame.layout.nb_channels, frame.layout.name
        self._unit = float(frame.time_base or 0)
        self._end = (frame.pts or 0) * self._unit

    def met(self, packet: "av.Packet[av.AudioStream]") -> None:
        """Note where a packet lies, which comes before its frames."""
        position = packet.pos
        if position is None or position < 0 or not packet.size:
            return
        if self._sizes:
            self._skipped += self._unheard + max(0, position - self._position)
        self._unheard = packet.size
        self._sizes += packet.size
        self._position = position + packet.size

    def add(self, frame: "av.AudioFrame") -> Iterator[tuple[bytes, bytes]]:
        """Take a frame; yield messages when enough is there."""
        if frame.pts is not None and self._is_timed:
            self._behind = frame.pts * self._unit - self._end
            if self._behind > self._longest_silence:  # another clock from here on
                self._end, self._behind = self._end + self._behind, 0.0
        if silent := self.silent(self._behind):
            self._miss(silent)
            yield from self.silence(silent)
            self._end += silent
            self._behind = 0.0
        self._skipped = self._unheard = 0
        self._end += frame.samples / frame.sample_rate
        for each in self._converted(frame):
            self._held += memoryview(each.planes[0])[: 4 * self.channels * each.samples]
            self.samples += each.samples
        yield from self._due()

    def silent(self, seconds: float) -> float:
        """Return the seconds without frames that are filled: 0 for what is too short, or too long to be true."""
        return seconds if SHORTEST_SILENCE < seconds <= self._longest_silence else 0.0

    def silence(self, seconds: float) -> Iterator[tuple[bytes, bytes]]:
        """Take silence; yield messages when enough is there."""
        left, most = round(seconds * self.rate), round(self._message_seconds * self.rate)
        while left > 0:
            size = min(left, most)
            self._held += bytes(4 * self.channels * size)
            left -= size
            yield from self._due()

    def taken(self) -> bytes:
        """Return what is held."""
        message = bytes(self._held)
        self._held.clear()
        return message

    def miss_bytes(self, size: int) -> None:
        """Note what is lost of ``size`` bytes that should all be packets."""
        lost = (size - self._sizes) * self._seconds_a_byte()
        if lost > RAW_SECONDS:
            self.lost += lost

    def missing(self, claimed: float) -> float:
        """Return the seconds that are missing, which a last packet that is torn is not."""
        missing = max(self.lost, self._gaps, claimed - self.samples / self.rate - self._pauses - max(0.0, self._behind))
        return missing if missing > max(0.1, TORN_PACKETS * self.longest_packet) else 0.0

    def _miss(self, gap: float) -> None:
        """Tell whether the sound of a gap is lost, or was never recorded.

        Where that cannot be told, only Opus is sent with gaps, in which nothing is said.
        """
        is_pause = self._codec == "opus"
        if self._is_placed:
            seconds = self._skipped * self._seconds_a_byte()
            is_pause = self._skipped <= SKIPPED_BYTES or seconds <= SKIPPED_SHARE * gap
        if is_pause:
            self._pauses += gap
        else:
            self._gaps += gap

    def _seconds_a_byte(self) -> float:
        return self.samples / self.rate / max(1, self._sizes)

    def _due(self) -> Iterator[tuple[bytes, bytes]]:
        if len(self._held) >= 4 * self.channels * self._message_seconds * self.rate:
            yield SAMPLES, self.taken()

    def _converted(self, frame: "av.AudioFrame") -> "list[av.AudioFrame]":
        is_same = frame.sample_rate == self.rate and frame.layout.name == self._layout
        if is_same and (frame.format.name == "flt" or (frame.format.name == "fltp" and self.channels == 1)):
            return [frame]
        import av

        kind = (frame.sample_rate, frame.layout.name, frame.format.name)
        if self._convert is None or self._convert[0] != kind:
            # Packed: PyAV 18 overruns memory where it has as many planes as there are pointers in a frame, which are 8.
            self._convert = kind, av.AudioResampler("flt", self._layout, self.rate)
        return self._convert[1].resample(frame)


if __name__ == "__main__":
    main()
