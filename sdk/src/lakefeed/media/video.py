"""The media type for videos. PyAV (the extra ``media``) is imported when the first one is opened."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, dropwhile, islice
from typing import Any, BinaryIO, ClassVar, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from lakefeed.errors import FormatError, InvalidArgumentError, LakefeedError
from lakefeed.media.media_type import MediaType, Stats
from lakefeed.media.probing.av_probe import first_stream, probe_video
from lakefeed.media.probing.image_probe import pillow
from lakefeed.media.timed_media import DURATION, PlayableHandle, TimedHandle, has_exact_timestamps

Frame: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]

# Without .ts and .mts, which usually are TypeScript files.
_CONTENT_TYPES = {
    ".3g2": "video/3gpp2",
    ".3gp": "video/3gpp",
    ".avi": "video/x-msvideo",
    ".flv": "video/x-flv",
    ".m2ts": "video/mp2t",
    ".m4v": "video/mp4",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".mp4": "video/mp4",
    ".mpeg": "video/mpeg",
    ".mpg": "video/mpeg",
    ".ogv": "video/ogg",
    ".webm": "video/webm",
    ".wmv": "video/x-ms-wmv",
}
_MAGIC = (
    (b"FLV\x01", "video/x-flv"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
    (b"\x00\x00\x01\xb3", "video/mpeg"),
    (b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\x00\xaa\x00b\xcel", "video/x-ms-wmv"),
)
_EBML = b"\x1aE\xdf\xa3"
_NON_VIDEO_BRANDS = (
    b"M4A",
    b"M4B",
    b"M4P",
    b"F4A",
    b"avi",
    b"hei",
    b"hev",
    b"mif",
    b"msf",
    b"jp2",
    b"jpx",
    b"jpm",
    b"crx",
)
_QUICKTIME_ATOMS = frozenset({b"moov", b"mdat", b"wide"})

MIN_SEEK_FRAMES = 8
"""Before this frame, decoding from the beginning is cheaper than looking for a key frame."""

MAX_PIXELS = 1 << 27
"""The largest frame that is decoded, as protection against decompression bombs; 16K video has 2^27 pixels."""

# Containers with exact timestamps.
_FRAME_ACCURATE_CONTAINERS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"})

# Codecs in which each packet is one frame. Others (VP8) have packets that are not shown, so counting packets does not
# give the number of a frame.
_PACKET_IS_FRAME = frozenset({"h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "prores", "dnxhd", "ffv1"})


# Their decoders show nothing before the first frame that is whole. Those of others show grey frames, or fail.
_WAITS_FOR_KEY_FRAME = frozenset({"h264", "hevc"})


class KeyFrame(NamedTuple):
    """A frame at which decoding can start. ``dts`` and ``pts`` are in units of the time base of its stream."""

    number: int
    dts: int
    pts: int


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Video(PlayableHandle):
    """A video. Statistics that could not be read are None.

    Attributes:
        duration_seconds: the duration of the first video stream.
        width: the width in pixels as stored, without rotation.
        height: the height in pixels as stored.
        fps: the average number of frames per second.
        num_frames: the number of frames; None if the container has no count and the file is too long to count.

    Example:
        >>> clip = Video("clip.mp4")  # doctest: +SKIP
        >>> for frame in clip.frames(start=100, stop=200, step=10): ...  # doctest: +SKIP
    """

    media: ClassVar[str] = "video"
    _probe: ClassVar[Callable[[BinaryIO], Stats]] = probe_video

    width: int | None = None
    height: int | None = None
    fps: float | None = None
    num_frames: int | None = None

    def frames(self, start: int = 0, stop: int | None = None, step: int = 1) -> Iterator[Frame]:
        """Decodes the frames ``start``, ``start + step``, … before ``stop``.

        Frames are numbered in display order, and the numbers are exact for every codec. If the index of the file
        allows it, decoding starts at the key frame before ``start``, else at the first frame. A range beyond the end
        is cut at the end. Frame 0 is the first that can be decoded: a file that begins inside a group of pictures has
        frames before its first key frame that cannot be.

        Args:
            start: the first frame, from 0.
            stop: the frame to end before; None for the end.
            step: returns every ``step``-th frame.

        Returns:
            An iterator of frames as uint8 of shape (height, width, 3), RGB. Each array is a writable copy.

        Raises:
            InvalidArgumentError: ``start`` or ``stop`` is negative, or ``step`` is below 1.
            FormatError: (while iterating) the file is broken or has no video. A truncated file yields the frames
                that it has first.
            MissingDependencyError: (while iterating) PyAV is not installed.
            FileError: (while iterating) the file cannot be read.
        """
        if start < 0 or (stop is not None and stop < 0) or step < 1:
            raise InvalidArgumentError(
                "start and stop are 0 or more and step is 1 or more, got "
                f"frames(start={start}, stop={stop}, step={step})"
            )
        return self._frames(start, stop, step)

    def _frames(self, start: int, stop: int | None, step: int) -> Iterator[Frame]:
        if stop is not None and stop <= start:
            return
        for key_frame in (self._find_key_frame(start), None):
            with self._decoding() as container:
                first, decoded = _decode_from(container, key_frame)
                if decoded is None:
                    continue
                count = 0
                for count, frame in enumerate(islice(decoded, stop and stop - first), first + 1):
                    if count > start and (count - 1 - start) % step == 0:
                        yield frame.to_ndarray(format="rgb24")
                if stop is None or count < stop:
                    self._require_complete(first_stream(container, "video"), container)
                return

    def _find_key_frame(self, start: int) -> KeyFrame | None:
        if start < MIN_SEEK_FRAMES:
            return None
        with self._decoding() as container:  # of its own, because not every file can be read from its start again
            return _find_key_frame(container, start)

    def _details(self) -> list[str]:
        size = f"{self.width}x{self.height}" if self.width is not None else None
        rate = f"{self.fps:.4g} fps" if self.fps is not None else None
        return [detail for detail in (size, *TimedHandle._details(self), rate) if detail is not None]

    def _repr_html_(self) -> str:
        from lakefeed.media.thumbnails import thumbnail_html

        try:
            frame = next(self.frames(stop=1), None)
            if frame is None:
                raise FormatError("the video has no frames")
            return thumbnail_html(pillow().fromarray(frame), repr(self))
        except (LakefeedError, OSError, ValueError) as error:
            return self._html_repr(error)


def sniff(head: bytes) -> str | None:
    r"""Returns the content type of the video that begins with ``head``; None if it is not a known video format.

    Ogg, MP4 and WebM files may hold only audio. The first bytes show it for Ogg, and for MP4 if its brand says so.

    Example:
        >>> sniff(b"\x00\x00\x00\x18ftypisom"), sniff(b"\x00\x00\x00\x18ftypM4A ")
        ('video/mp4', None)
    """
    if head[4:8] == b"ftyp":
        if head[8:11].startswith(_NON_VIDEO_BRANDS):
            return None
        return "video/quicktime" if head[8:10] == b"qt" else "video/mp4"
    if head[4:8] in _QUICKTIME_ATOMS:
        return "video/quicktime"
    if head.startswith(_EBML):
        return "video/webm" if b"webm" in head else "video/x-matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "video/x-msvideo"
    if head[:4] == b"OggS" and (head[28:35] == b"\x80theora" or head[28:35] == b"fishead"):
        return "video/ogg"
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)


def _decode_from(container: Any, key_frame: KeyFrame | None) -> tuple[int, Iterator[Any] | None]:
    """Returns the number of the first decoded frame, and the frames in order; None if the key frame is not reached."""
    stream = first_stream(container, "video")
    _require_size(stream)
    stream.thread_type = "AUTO"
    if key_frame is None:
        return 0, _decode(container, stream)
    container.seek(key_frame.dts, stream=stream)
    # Frames that are stored after the key frame but shown before it cannot be decoded from here.
    decoded = dropwhile(lambda frame: frame.pts is None or frame.pts < key_frame.pts, _decode(container, stream))
    first = next(decoded, None)
    is_reached = first is not None and first.pts == key_frame.pts
    return key_frame.number, chain([first], decoded) if is_reached else None


def _decode(container: Any, stream: Any) -> Iterator[Any]:
    """Yields frames. Leaves out packets before the first key frame, and a last packet that is cut off."""
    codec = stream.codec_context.codec.name
    is_started = codec in _WAITS_FOR_KEY_FRAME
    has_packets = False
    for packet in container.demux(stream):
        is_started |= packet.is_keyframe
        is_cut_off = packet.is_corrupt and (packet.pos or 0) + packet.size >= container.size
        if not packet.size or (is_started and not is_cut_off):
            yield from packet.decode() if is_started else ()
        has_packets |= bool(packet.size)
    if has_packets and not is_started:
        raise FormatError("the video has no key frame, so none of its frames can be decoded")


def _require_size(stream: Any) -> None:
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MAX_PIXELS:
        raise FormatError(f"frames of {width}x{height} pixels are too large to decode")


def _find_key_frame(container: Any, start: int) -> KeyFrame | None:
    """Returns the last key frame shown at or before frame ``start``; None if unknown.

    Reads the packets of the whole file and decodes none.
    """
    stream = first_stream(container, "video")
    if not (
        has_exact_timestamps(container, _FRAME_ACCURATE_CONTAINERS)
        and stream.codec_context.codec.name in _PACKET_IS_FRAME
    ):
        return None
    packets = [packet for packet in container.demux(stream) if packet.size]
    shown = [packet for packet in packets if not packet.is_discard]
    if not shown or any(packet.pts is None or packet.dts is None for packet in packets):
        return None
    times = sorted({packet.pts for packet in shown})
    # Frames before the first key frame cannot be decoded and have no number.
    if len(times) < len(shown) or not packets[0].is_keyframe or times[0] < packets[0].pts:
        return None
    target = times[min(start, len(times) - 1)]
    keys = [packet for packet in shown if packet.is_keyframe and packet.pts <= target]
    if not keys:
        return None
    key = max(keys, key=lambda packet: packet.pts)
    return KeyFrame(bisect_right(times, key.pts) - 1, key.dts, key.pts)


VIDEO = MediaType(
    name="video",
    handle=Video,
    default_mode="path",
    stat_fields=(
        DURATION,
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("fps", pa.float64()),
        pa.field("num_frames", pa.int64()),
    ),
    content_types=_CONTENT_TYPES,
    sniff=sniff,
    probe=probe_video,
)
