"""Sound, through PyAV (the extra ``media``), which is imported when the first one is opened."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Any, BinaryIO, ClassVar, TypeAlias

import numpy as np
import pyarrow as pa

from lakefeed._units import KIB
from lakefeed.errors import FormatError, InvalidArgumentError, LakefeedError
from lakefeed.media.media_type import MediaType, Stats
from lakefeed.media.probing.av_probe import first_stream, probe_audio, pyav
from lakefeed.media.thumbnails import data_url
from lakefeed.media.timed_media import DURATION, PlayableHandle, TimedHandle, has_exact_timestamps, start_timestamp

Samples: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

_CONTENT_TYPES = {
    ".aac": "audio/aac",
    ".aif": "audio/aiff",
    ".aiff": "audio/aiff",
    ".amr": "audio/amr",
    ".caf": "audio/x-caf",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".m4b": "audio/mp4",
    ".mka": "audio/x-matroska",
    ".mp3": "audio/mpeg",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
    ".weba": "audio/webm",
    ".wma": "audio/x-ms-wma",
}
_MAGIC = (
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"caff\x00\x01", "audio/x-caf"),
    (b"#!AMR", "audio/amr"),
    (b"riff\x2e\x91\xcf\x11", "audio/x-w64"),
)
_OGG_CODECS = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ")
_BRANDS = frozenset({b"M4A", b"M4B", b"M4P", b"F4A"})

MAX_PLAYER_BYTES = 256 * KIB
"""A notebook plays what is not longer; it becomes part of the page."""

PREROLL_SECONDS = 1.0
"""A codec needs what lies before to decode a sample as if it had heard everything."""

# Whose places in time are exact to the sample. Others (MP3, Matroska) are decoded from the beginning.
_SAMPLE_ACCURATE_CONTAINERS = frozenset({"wav", "w64", "flac", "aiff", "caf", "au", "mov,mp4,m4a,3gp,3g2,mj2"})


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Audio(PlayableHandle):
    """Sound. What could not be read of its statistics is None.

    Attributes:
        duration_seconds: of the first audio stream.
        sample_rate: samples a second.
        channels: 1 for mono, 2 for stereo.

    Example:
        >>> speech = Audio("speech.flac")  # doctest: +SKIP
        >>> speech.samples(start=1.0, stop=2.5, sample_rate=16_000).shape  # doctest: +SKIP
        (24000, 1)
    """

    media: ClassVar[str] = "audio"
    _probe: ClassVar[Callable[[BinaryIO], Stats]] = probe_audio

    sample_rate: int | None = None
    channels: int | None = None

    def samples(self, start: float = 0.0, stop: float | None = None, sample_rate: int | None = None) -> Samples:
        """The decoded sound, float32 in -1 to 1, of shape (samples, channels): as soundfile and SciPy give it.

        Transpose it (``.T``) for torchaudio. Cut exactly at the samples nearest to ``start`` and ``stop``; what lies
        beyond the end is left out.

        Args:
            start: in seconds.
            stop: in seconds; None for the end.
            sample_rate: samples a second to convert to; None for those of the file (see ``info`` if the attribute
                ``sample_rate`` is None).

        Raises:
            InvalidArgumentError: a negative time, or a rate below 1.
            FormatError: the file is broken, or has no audio.
            MissingDependencyError: PyAV is not installed.
            FileError: the file cannot be read.
        """
        last = inf if stop is None else stop
        if not (0 <= start < inf and last >= 0 and (sample_rate is None or sample_rate >= 1)):
            raise InvalidArgumentError(
                f"samples(start={start}, stop={stop}, sample_rate={sample_rate}): times are 0 or more, in seconds, and "
                "the rate is 1 or more"
            )
        with self._decoding() as container:
            return _read_samples(container, start, last, sample_rate)

    def _details(self) -> list[str]:
        rate = f"{self.sample_rate} Hz" if self.sample_rate is not None else None
        channels = f"{self.channels} ch" if self.channels is not None else None
        return [*TimedHandle._details(self), *(fact for fact in (rate, channels) if fact is not None)]

    def _repr_html_(self) -> str:
        if self.length is None or self.length > MAX_PLAYER_BYTES or not (self.data or self.store):
            return self._html_facts()
        try:
            content = self.bytes()
        except (LakefeedError, OSError) as error:
            return self._html_facts(error)
        content_type = self.content_type or sniff(content) or "audio/mpeg"
        player = f'<audio controls src="{html.escape(data_url(content_type, content), quote=True)}"></audio>'
        return f"{player}<br>{self._html_facts()}"


def sniff(head: bytes) -> str | None:
    """The content type of the sound that begins with ``head``; None if it is none.

    Example:
        >>> sniff(b"fLaC..."), sniff(b"plain words")
        ('audio/flac', None)
    """
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "audio/wav"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "audio/aiff"
    if head[4:8] == b"ftyp":
        return "audio/mp4" if head[8:11] in _BRANDS else None
    if head[:4] == b"OggS":
        return "audio/ogg" if head[28:].startswith(_OGG_CODECS) else None
    return next((found for magic, found in _MAGIC if head.startswith(magic)), _sniff_frame_header(head[:3]))


def _sniff_frame_header(head: bytes) -> str | None:
    """MP3 and AAC without a container: a pattern of bits, with fields that must not have their forbidden values."""
    if len(head) < 3 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    if layer == 0:
        return "audio/aac" if head[1] & 0xF6 == 0xF0 and head[2] >> 2 & 15 < 13 else None
    fits = version != 1 and layer == 1 and head[2] >> 4 not in (0, 15) and head[2] >> 2 & 3 != 3
    return "audio/mpeg" if fits else None


def _read_samples(container: Any, start: float, stop: float, sample_rate: int | None) -> Samples:
    stream = first_stream(container, "audio")
    rate = stream.codec_context.sample_rate
    if not rate:
        raise FormatError("the audio has no sample rate")
    first, last = round(start * rate), None if stop == inf else round(stop * rate)
    pieces = list(_trim(_decode_from(container, stream, first), first, last))
    whole = np.concatenate(pieces) if pieces else np.zeros((0, stream.codec_context.channels), np.float32)
    return whole if sample_rate in (None, rate) or not len(whole) else _resample(whole, rate, int(sample_rate or rate))


def _trim(pieces: Iterator[tuple[int, Samples]], first: int, last: int | None) -> Iterator[Samples]:
    for place, piece in pieces:
        if last is not None and place >= last:
            return
        found = piece[max(first - place, 0) : None if last is None else last - place]
        if len(found):
            yield found


def _decode_from(container: Any, stream: Any, first: int) -> Iterator[tuple[int, Samples]]:
    """Decoded pieces and the number of the first sample of each; from before sample ``first`` where that is exact."""
    rate = stream.codec_context.sample_rate
    begin = start_timestamp(stream)
    target = first - round(PREROLL_SECONDS * rate)
    sought = (
        target > 0 and has_exact_timestamps(container, _SAMPLE_ACCURATE_CONTAINERS) and stream.time_base * rate == 1
    )
    if sought:
        container.seek(begin + target, stream=stream)
    place = None if sought else 0
    for frame in container.decode(stream):
        piece = _to_float(frame)
        if place is None:
            place = frame.pts - begin
        yield place, piece
        place += len(piece)


def _to_float(frame: Any) -> Samples:
    """Of shape (samples, channels), in -1 to 1."""
    values: np.ndarray[Any, Any] = frame.to_ndarray()
    channels = frame.layout.nb_channels
    values = values.T if frame.format.is_planar else values.reshape(-1, channels)
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - np.float32(128)) / np.float32(128)
    if np.issubdtype(values.dtype, np.integer):
        return np.asarray(values / -float(np.iinfo(values.dtype).min), np.float32)
    return np.ascontiguousarray(values, np.float32)


def _resample(whole: Samples, rate: int, wanted: int) -> Samples:
    av = pyav()
    layout = av.AudioLayout({1: "mono", 2: "stereo"}.get(whole.shape[1], f"{whole.shape[1]}c"))
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(whole.T), format="fltp", layout=layout)
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=wanted)
    pieces = [piece.to_ndarray() for piece in (*resampler.resample(frame), *resampler.resample(None))]
    return np.ascontiguousarray(np.concatenate(pieces, axis=1).T) if pieces else whole[:0]


AUDIO = MediaType(
    name="audio",
    handle=Audio,
    default_mode="path",
    stat_fields=(
        DURATION,
        pa.field("sample_rate", pa.int32()),
        pa.field("channels", pa.int32()),
    ),
    content_types=_CONTENT_TYPES,
    sniff=sniff,
    probe=probe_audio,
)
