from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lakefeed import Video
from lakefeed.errors import FormatError, InvalidArgumentError, MissingFileError
from lakefeed.media import video
from lakefeed.media.probing.av_probe import probe_audio, probe_video
from tests.sdk.media.pictures import encoded
from tests.sdk.media.recorded import make_audio, make_video, number, picture, remuxed

FRAMES = 60
KINDS: dict[str, dict[str, Any]] = {
    "plain.mp4": {},
    "b-frames.mp4": {"options": {"bf": "3", "g": "12"}},
    "open-gop.mp4": {"options": {"x264-params": "open-gop=1:keyint=10:bframes=3:b-adapt=0"}},
    "variable-rate.mkv": {"options": {"bf": "2", "g": "9"}, "times": [n + n * n // 7 for n in range(FRAMES)]},
    "h265.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=10:bframes=3:open-gop=1"}},
    "hidden-frames.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "20"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "20"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "motion.mov": {"codec": "mjpeg"},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "stream.m2ts": {"options": {"bf": "3", "g": "12"}},
    "flash.flv": {"codec": "flv"},
    "windows.wmv": {"codec": "wmv2"},
}


@pytest.fixture(scope="module", params=KINDS)
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Video:
    return Video(make_video(tmp_path_factory.mktemp("clips") / request.param, FRAMES, **KINDS[request.param]))


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Video:
    return Video(make_video(tmp_path_factory.mktemp("clips") / "short.mp4", 12))


def numbers(frames: Iterator[np.ndarray[Any, Any]]) -> list[int]:
    return [number(frame) for frame in frames]


def test_every_frame_once_and_in_order(clip: Video) -> None:
    assert numbers(clip.frames()) == list(range(FRAMES))


@pytest.mark.live
def test_frames_are_exact_from_wherever_they_begin(clip: Video) -> None:
    for start in range(0, FRAMES + 2, 3):
        assert numbers(clip.frames(start, start + 2)) == list(range(FRAMES))[start : start + 2]
    assert numbers(clip.frames(21, 50, 7)) == [21, 28, 35, 42, 49]
    assert numbers(clip.frames(start=FRAMES - 1)) == [FRAMES - 1]


def test_statistics(clip: Video) -> None:
    found = clip.info()
    assert (found["width"], found["height"], found["num_frames"], found["fps"]) == (64, 48, FRAMES, 25)
    if "variable" not in clip.name:
        assert found["duration_seconds"] == pytest.approx(FRAMES / 25, abs=0.001)


def test_a_late_frame_is_sought_for(short: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = Video(make_video(tmp_path / "long.mp4", 200, options={"g": "10"}))
    shown = []
    begun_at = video._decode_from

    def recording(container: Any, key_frame: Any) -> Any:
        shown.append(begun_at(container, key_frame))
        return shown[-1]

    monkeypatch.setattr(video, "_decode_from", recording)
    assert numbers(long.frames(195, 196)) == [195]
    assert 185 <= shown[0][0] <= 195


def test_a_frame(short: Video) -> None:
    frame = next(short.frames())
    assert (frame.shape, frame.dtype) == ((48, 64, 3), np.uint8)
    assert frame.flags.writeable
    assert np.abs(frame.astype(int) - picture(0)).mean() < 3


def test_nothing_beyond_the_end(short: Video) -> None:
    assert numbers(short.frames(100)) == numbers(short.frames(5, 5)) == numbers(short.frames(5, 3)) == []
    assert numbers(short.frames(10, 100)) == [10, 11]


CUT_KINDS: dict[str, dict[str, Any]] = {
    "h264.mp4": {"options": {"g": "12", "bf": "0"}},
    "open.mp4": {"options": {"x264-params": "open-gop=1:keyint=10:bframes=3:b-adapt=0"}},
    "h265.mkv": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=10:bframes=3:open-gop=1"}},
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"g": "12"}},
    "vp9.mkv": {"codec": "libvpx-vp9", "options": {"g": "12"}},
    "mpeg2.mkv": {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}},
}


@pytest.mark.parametrize("name", CUT_KINDS)
def test_frames_of_a_file_that_begins_inside_a_group_of_pictures(tmp_path: Path, name: str) -> None:
    """Frames begin with the first that can be decoded, and have the same numbers from any start."""
    source = make_video(tmp_path / f"whole-{name}.mp4", 40, **CUT_KINDS[name])
    for packets in (1, 5):
        clip = Video(remuxed(source, tmp_path / f"{packets}-{name}", packets))
        shown = numbers(clip.frames())
        assert shown == list(range(shown[0], 40))
        assert 0 < shown[0] <= 12
        for start in (0, 9, 20):
            assert numbers(clip.frames(start, start + 2)) == shown[start : start + 2]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {"movflags": "faststart"}),
        ("fragments.mp4", {"movflags": "frag_keyframe+empty_moov"}),
        ("a.mkv", {}),
        ("a.avi", {}),
        ("a.ts", {}),
    ],
)
def test_a_truncated_file_yields_its_frames_and_raises(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    source = make_video(tmp_path / f"whole-{name}", FRAMES, codec="mpeg4", options={"g": "12"})
    content = Path(remuxed(source, tmp_path / name, options=options)).read_bytes()
    assert numbers(Video(data=content + b"\0" * 7).frames()) == list(range(FRAMES))
    clip = Video(data=content[: int(len(content) * 0.7)])
    shown: list[int] = []
    with pytest.raises(FormatError, match="the file is truncated"):
        shown.extend(map(number, clip.frames()))
    assert shown == list(range(len(shown)))
    assert 9 < len(shown) < FRAMES
    assert numbers(clip.frames(2, 6)) == [2, 3, 4, 5]
    with pytest.raises(FormatError, match="the file is truncated"):
        next(clip.frames(FRAMES - 1))


@pytest.mark.parametrize("wrong", [{"start": -1}, {"stop": -1}, {"step": 0}])
def test_what_cannot_be_asked_is_refused_at_the_call(short: Video, wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidArgumentError, match="start and stop are 0 or more and step is 1 or more"):
        short.frames(**wrong)


def test_from_bytes_in_memory(short: Video) -> None:
    assert numbers(Video(data=short.bytes()).frames(3, 5)) == [3, 4]


def test_an_iteration_that_is_left_closes_the_file(short: Video) -> None:
    frames = short.frames()
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert next(frames, None) is None


def test_a_handle_travels(short: Video) -> None:
    assert numbers(pickle.loads(pickle.dumps(short)).frames(stop=1)) == [0]


def test_what_is_no_video(tmp_path: Path, short: Video) -> None:
    (tmp_path / "broken.mp4").write_bytes(short.bytes()[:200])
    with pytest.raises(FormatError):
        next(Video(str(tmp_path / "broken.mp4")).frames())
    with pytest.raises(FormatError, match="no video"):
        next(Video(make_audio(tmp_path / "sound.mp4", codec="aac")).frames())
    with pytest.raises(MissingFileError):
        next(Video(str(tmp_path / "nosuch.mp4")).frames())


def test_frames_too_large_to_decode_are_refused(short: Video, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(FormatError, match="frames of 64x48 pixels are too large"):
        next(short.frames())


def test_a_playlist_opens_no_other_file(short: Video) -> None:
    text = f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{Path(short.path()).as_uri()}\n"
    for playlist in (text, f"ffconcat version 1.0\nfile '{short.path()}'\n"):
        with pytest.raises(FormatError):
            probe_video(io.BytesIO(playlist.encode()))
        with pytest.raises(FormatError):
            next(Video(data=playlist.encode()).frames())


def test_the_cover_of_a_song_is_no_video() -> None:
    sound = io.BytesIO()
    make_audio(sound, codec="libmp3lame", format_name="mp3")
    picture = b"\0image/png\0\x03\0" + encoded()
    frame = b"APIC" + len(picture).to_bytes(4, "big") + b"\0\0" + picture
    size = bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))
    song = b"ID3\x03\0\0" + size + frame + sound.getvalue()
    assert probe_audio(io.BytesIO(song))["duration_seconds"] == 1.5
    with pytest.raises(FormatError, match="the file has no video"):
        probe_video(io.BytesIO(song))


def test_repr_and_notebook(short: Video) -> None:
    known = Video("a.mp4", width=64, height=48, duration_seconds=2.4, fps=25.0, content_type="video/mp4")
    assert repr(known) == "Video('a.mp4', 64x48, 2.4 s, 25 fps, video/mp4)"
    assert short._repr_html_().startswith('<img src="data:image/png;base64,')
    broken = Video(data=b"<script>", filename="<b>.mp4")._repr_html_()
    assert broken.startswith("<code>")
    assert "<b>" not in broken
    assert "<script>" not in broken


@pytest.mark.parametrize("name", KINDS)
def test_first_bytes_tell_the_type(name: str, tmp_path: Path) -> None:
    content = Path(make_video(tmp_path / name, 3, **{**KINDS[name], "times": None})).read_bytes()
    # A transport stream is told by packets further on, which are not looked at.
    assert video.sniff(content[:64]) == (
        None if name.endswith(".m2ts") else video.VIDEO.content_types[Path(name).suffix]
    )
