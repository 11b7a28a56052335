"""Statistics of video and audio files. PyAV is imported when the first file is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from typing import Any, BinaryIO

from lakefeed._units import MIB
from lakefeed.errors import FormatError, MissingDependencyError

# Containers only. Playlists (HLS, DASH, concat) would make a file open others, here and on the network.
_DEMUXERS = (
    "aac", "ac3", "aiff", "amr", "asf", "au", "avi", "caf", "flac", "flv", "h264", "hevc", "ivf", "matroska", "mov",
    "mp3", "mpeg", "mpegts", "mpegvideo", "ogg", "w64", "wav",
)  # fmt: skip
_OPTIONS = {"format_whitelist": ",".join(_DEMUXERS), "protocol_whitelist": "none"}
_ATTACHED_PICTURE = 0x400  # such as the cover of an album

_ESTIMATED_DURATIONS = frozenset(
    {"mpeg", "mpegvideo", "aac", "h264", "hevc"}
)  # libav estimates the duration from the bit rate

# libav reads much of a WAV file to detect DTS inside PCM, which takes 7 ms instead of 0.4 ms for the header.
_WAVE = (b"RIFF", b"RF64")
_TRUST_HEADER = {"max_probe_packets": "1"}

_VP8_SHOWN = 0x10
"""The bit of a packet of VP8 whose frame is shown. Other packets are references for later ones."""

MAX_COUNT_BYTES = 64 * MIB
"""Files up to this size have their frames counted if the header has no number."""


@contextmanager
def open_container(stream: BinaryIO, more_options: Mapping[str, str] | None = None) -> Iterator[Any]:
    """Opens the container in ``stream`` as an ``av.container.InputContainer``. Errors of libav become FormatError.

    Raises:
        FormatError: the file is broken, or its container format is not supported.
        MissingDependencyError: PyAV is not installed.
    """
    library = pyav()
    try:
        with library.open(stream, metadata_errors="replace", options={**_OPTIONS, **(more_options or {})}) as container:
            yield container
    except (library.FFmpegError, ArithmeticError, LookupError, ValueError, MemoryError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(_reason(error)) from error


@cache
def pyav() -> Any:
    """Returns the module av.

    Raises:
        MissingDependencyError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError("video and audio need PyAV: pip install 'lakefeed[media]'") from error
    return av


load = pyav


def first_stream(container: Any, kind: str) -> Any:
    """Returns the first video or audio stream.

    Raises:
        FormatError: the file has no such stream, or libav does not know its codec.
    """
    for stream in container.streams:
        if stream.type == kind and not int(stream.disposition) & _ATTACHED_PICTURE:
            if stream.codec_context is None:
                raise FormatError(f"the codec of the {kind} is not known")
            return stream
    raise FormatError(f"the file has no {kind}")


def probe_video(stream: BinaryIO) -> Mapping[str, int | float | None]:
    """Reads the statistics of the first video stream without decoding.

    ``num_frames`` is the number in the container. If the container has none (Matroska, WebM, MPEG), the packets that
    are shown are counted; of interlaced video, a packet may be half a frame. In files above `MAX_COUNT_BYTES` it is
    unknown.

    Raises:
        FormatError: the file is broken or has no video.
        MissingDependencyError: PyAV is not installed.
    """
    with open_container(stream) as container:
        video = first_stream(container, "video")
        width, height = video.codec_context.width, video.codec_context.height
        if not (width and height):
            raise FormatError("the video has no size")
        rate = video.average_rate or video.guessed_rate
        frames, seconds = video.frames, _duration_seconds(container, video)
        if not frames:
            frames = len(_read_packets(container, video))
            if container.format.name in _ESTIMATED_DURATIONS and frames and rate:
                seconds = float(frames / rate)
        return {
            "duration_seconds": seconds,
            "width": width,
            "height": height,
            "fps": float(rate) if rate else None,
            "num_frames": frames or None,
        }


def probe_audio(stream: BinaryIO) -> Mapping[str, int | float | None]:
    """Reads the statistics of the first audio stream without decoding.

    Raises:
        FormatError: the file is broken or has no audio.
        MissingDependencyError: PyAV is not installed.
    """
    head = stream.read(4)
    stream.seek(0)
    with open_container(stream, _TRUST_HEADER if head in _WAVE else None) as container:
        audio = first_stream(container, "audio")
        if not audio.codec_context.sample_rate:
            raise FormatError("the audio has no sample rate")
        seconds = _duration_seconds(container, audio)
        if container.format.name in _ESTIMATED_DURATIONS:
            packets = _read_packets(container, audio)
            seconds = float(sum(packet.duration or 0 for packet in packets) * audio.time_base) if packets else seconds
        return {
            "duration_seconds": seconds,
            "sample_rate": audio.codec_context.sample_rate,
            "channels": audio.codec_context.channels or None,
        }


def _duration_seconds(container: Any, stream: Any) -> float | None:
    """Returns the duration of the stream, or of the whole file if only that is known."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return float(Fraction(container.duration, pyav().time_base)) if container.duration is not None else None


def _read_packets(container: Any, stream: Any) -> list[Any]:
    """Returns the packets that are shown or played; none if the file is too large."""
    if not 0 < container.size <= MAX_COUNT_BYTES:
        return []
    packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
    if stream.codec_context.name != "vp8":
        return packets
    return [packet for packet in packets if bytes(packet)[0] & _VP8_SHOWN]


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
