"""The media type for audio files. PyAV (the extra ``media``) is imported when the first one is opened."""

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
"""The largest file that a notebook page embeds in a player."""

PREROLL_SECONDS = 1.0
"""Decoding starts this much earlier, because packets do not begin at every sample."""

# Containers with timestamps that are exact to the sample. Others (MP3, Matroska) are decoded from the beginning.
_SAMPLE_ACCURATE_CONTAINERS = frozenset({"wav", "w64", "flac", "aiff", "caf", "au", "mov,mp4,m4a,3gp,3g2,mj2"})

# Codecs whose samples do not depend on earlier packets, besides PCM. ADPCM depends on all of them, and AAC and AC-3
# fill bands with noise that does.
_INDEPENDENT_PACKETS = frozenset({"flac", "alac"})


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Audio(PlayableHandle):
    """An audio file. Statistics that could not be read are None.

    Attributes:
        duration_seconds: the duration of the first audio stream.
        sample_rate: samples per second.
        channels: the number of channels: 1 for mono, 2 for stereo.

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
        """Decodes the audio from ``start`` to ``stop``.

        The cuts are at the samples nearest to ``start`` and ``stop``. A range beyond the end is cut at the end.

        Args:
            start: the first second.
            stop: the second to end before; None for the end.
            sample_rate: the rate to resample to, in samples per second; None for the rate of the file (see ``info`` if
                the attribute ``sample_rate`` is None).

        Returns:
            Samples as float32 in -1 to 1, of shape (samples, channels) as in soundfile and SciPy. Transpose them
            (``.T``) for torchaudio.

        Raises:
            InvalidArgumentError: a time is negative, or the rate is below 1.
            FormatError: the file is broken, has no audio, or is truncated before ``stop``.
            MissingDependencyError: PyAV is not installed.
            FileError: the file cannot be read.
        """
        last = inf if stop is None else stop
        if not (0 <= start < inf and last >= 0 and (sample_rate is None or sample_rate >= 1)):
            raise InvalidArgumentError(
                "times are 0 or more, in seconds, and sample_rate is 1 or more, got "
                f"samples(start={start}, stop={stop}, sample_rate={sample_rate})"
            )
        with self._decoding() as container:
            samples, is_whole = _read_samples(container, start, last, sample_rate)
            if not is_whole:
                self._require_complete(first_stream(container, "audio"), container)
            return samples

    def _details(self) -> list[str]:
        rate = f"{self.sample_rate} Hz" if self.sample_rate is not None else None
        channels = f"{self.channels} ch" if self.channels is not None else None
        return [*TimedHandle._details(self), *(detail for detail in (rate, channels) if detail is not None)]

    def _repr_html_(self) -> str:
        from lakefeed.media.thumbnails import data_url

        if self.length is None or self.length > MAX_PLAYER_BYTES or not (self.data or self.store):
            return self._html_repr()
        try:
            content = self.bytes()
        except (LakefeedError, OSError) as error:
            return self._html_repr(error)
        content_type = self.content_type or sniff(content) or "audio/mpeg"
        player = f'<audio controls src="{html.escape(data_url(content_type, content), quote=True)}"></audio>'
        return f"{player}<br>{self._html_repr()}"


def sniff(head: bytes) -> str | None:
    """Returns the content type of the audio file that begins with ``head``; None if it is not audio.

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
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), _sniff_frame_header(head[:3]))


def _sniff_frame_header(head: bytes) -> str | None:
    """Recognises MP3 and AAC without a container by the bits of a frame header and their forbidden values."""
    if len(head) < 3 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    if layer == 0:
        return "audio/aac" if head[1] & 0xF6 == 0xF0 and head[2] >> 2 & 15 < 13 else None
    is_mpeg = version != 1 and layer == 1 and head[2] >> 4 not in (0, 15) and head[2] >> 2 & 3 != 3
    return "audio/mpeg" if is_mpeg else None


def _read_samples(container: Any, start: float, stop: float, sample_rate: int | None) -> tuple[Samples, bool]:
    """Returns the samples, and whether the file has all of the range."""
    stream = first_stream(container, "audio")
    rate = stream.codec_context.sample_rate
    if not rate:
        raise FormatError("the audio has no sample rate")
    first, last = round(start * rate), None if stop == inf else round(stop * rate)
    blocks = list(_trim(_decode_from(container, stream, first), first, last))
    samples = np.concatenate(blocks) if blocks else np.zeros((0, stream.codec_context.channels), np.float32)
    is_whole = last is not None and len(samples) >= last - first
    if sample_rate in (None, rate) or not len(samples):
        return samples, is_whole
    return _resample(samples, rate, int(sample_rate or rate)), is_whole


def _trim(blocks: Iterator[tuple[int, Samples]], first: int, last: int | None) -> Iterator[Samples]:
    for position, block in blocks:
        if last is not None and position >= last:
            return
        part = block[max(first - position, 0) : None if last is None else last - position]
        if len(part):
            yield part


def _decode_from(container: Any, stream: Any, first: int) -> Iterator[tuple[int, Samples]]:
    """Yields decoded blocks with the index of their first sample. Starts near ``first`` if timestamps are exact."""
    rate = stream.codec_context.sample_rate
    start = start_timestamp(stream)
    target = first - round(PREROLL_SECONDS * rate)
    codec = stream.codec_context.codec.name
    seeks = (
        target > 0
        and (codec.startswith("pcm_") or codec in _INDEPENDENT_PACKETS)
        and has_exact_timestamps(container, _SAMPLE_ACCURATE_CONTAINERS)
        and stream.time_base * rate == 1
    )
    if seeks:
        container.seek(start + target, stream=stream)
    position = None if seeks else 0
    for frame in container.decode(stream):
        block = _to_float(frame)
        if position is None:
            position = frame.pts - start
        yield position, block
        position += len(block)


def _to_float(frame: Any) -> Samples:
    """Returns the samples of a frame in -1 to 1, of shape (samples, channels)."""
    values: np.ndarray[Any, Any] = frame.to_ndarray()
    channels = frame.layout.nb_channels
    values = values.T if frame.format.is_planar else values.reshape(-1, channels)
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - np.float32(128)) / np.float32(128)
    if np.issubdtype(values.dtype, np.integer):
        return np.asarray(values / -float(np.iinfo(values.dtype).min), np.float32)
    return np.ascontiguousarray(values, np.float32)


def _resample(samples: Samples, rate: int, new_rate: int) -> Samples:
    av = pyav()
    layout = av.AudioLayout({1: "mono", 2: "stereo"}.get(samples.shape[1], f"{samples.shape[1]}c"))
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=layout)
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=new_rate)
    blocks = [block.to_ndarray() for block in (*resampler.resample(frame), *resampler.resample(None))]
    return np.ascontiguousarray(np.concatenate(blocks, axis=1).T) if blocks else samples[:0]


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
