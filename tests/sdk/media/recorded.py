"""Real videos, sounds and recordings, encoded on the spot."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

Array = np.ndarray[Any, Any]

DATA = Path(__file__).parent / "data"
RRD_SECONDS = 2.9
"""Of data/recording.rrd, made by Rerun 0.41: 30 scalars, a tenth of a second apart."""

BARS = 8  # a frame shows its number in so many bits


def make_video(
    path: str | Path | io.BytesIO,
    frames: int = 30,
    fps: int = 25,
    *,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    format_name: str | None = None,
    times: list[int] | None = None,
) -> str:
    """Writes a video whose frames show their number (see ``number``); ``times`` are their times in 1/fps.

    B-frames: ``options={"bf": "3"}``; key frames every 12: ``options={"g": "12"}``.
    """
    target: Any = path if isinstance(path, io.BytesIO) else str(path)
    with av.open(target, "w", format=format_name) as container:
        stream: Any = container.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(index, size), format="rgb24")
            frame.pts, frame.time_base = (times[index] if times else index), Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)


def remuxed(source: str, path: Path, first: int = 0, options: dict[str, str] | None = None) -> str:
    """Copies the packets of a file from number ``first`` on, without decoding."""
    with av.open(source) as original, av.open(str(path), "w", options=options or {}) as copy:
        stream = original.streams[0]
        target: Any = copy.add_stream_from_template(stream)
        for packet in [packet for packet in original.demux(stream) if packet.size][first:]:
            packet.stream = target
            copy.mux(packet)
    return str(path)


def picture(index: int, size: tuple[int, int] = (64, 48)) -> Array:
    """A picture that shows a number as bars, black for 0 and white for 1."""
    width, height = size
    bits = [(index >> bit & 1) * 255 for bit in range(BARS)]
    row = np.repeat(bits, -(-width // BARS))[:width].astype(np.uint8)
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def number(frame: Array) -> int:
    """The number that a frame shows."""
    middle = frame.mean(axis=(0, 2))
    width = len(middle) // BARS
    return sum(int(middle[bit * width + width // 2] > 127) << bit for bit in range(BARS))


def make_audio(
    path: str | Path | io.BytesIO,
    seconds: float = 1.5,
    rate: int = 16_000,
    *,
    channels: int = 1,
    codec: str = "pcm_s16le",
    format_name: str | None = None,
) -> str:
    """Writes the sound of ``wave``."""
    target: Any = path if isinstance(path, io.BytesIO) else str(path)
    layout = "mono" if channels == 1 else "stereo"
    with av.open(target, "w", format=format_name) as container:
        stream: Any = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(wave(seconds, rate, channels).T), format="fltp", layout=layout
        )
        frame.sample_rate, frame.pts = rate, 0
        resampler = av.AudioResampler(
            format=stream.codec_context.format,
            layout=layout,
            rate=rate,
            frame_size=stream.codec_context.frame_size or None,
        )
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(piece))
        container.mux(stream.encode())
    return str(path)


def wave(seconds: float, rate: int, channels: int = 1) -> Array:
    """A sound whose every moment differs, float32 (samples, channels)."""
    time = np.arange(round(seconds * rate)) / rate
    sweep = 0.5 * np.sin(2 * np.pi * (200 * time + 150 * time**2))
    return np.stack([sweep / (channel + 1) for channel in range(channels)], axis=1).astype(np.float32)


def make_mcap(path: str | Path, seconds: float = 2.5, messages: int = 6, *, statistics: bool = True) -> str:
    """Writes a recording of JSON messages, evenly spaced."""
    from mcap.writer import Writer

    with Path(path).open("wb") as file:
        writer = Writer(file, use_statistics=statistics)
        writer.start()
        channel = writer.register_channel(topic="/x", message_encoding="json", schema_id=0)
        for index in range(messages):
            moment = 1_700_000_000_000_000_000 + round(index * seconds / max(messages - 1, 1) * 1e9)
            writer.add_message(channel, log_time=moment, data=b"{}", publish_time=moment)
        writer.finish()
    return str(path)


def make_rrd(path: str | Path) -> str:
    """Copies a recording that Rerun wrote: its library is too large to install for a test."""
    Path(path).write_bytes((DATA / "recording.rrd").read_bytes())
    return str(path)
