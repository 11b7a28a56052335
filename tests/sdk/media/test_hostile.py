"""Files that were made, or happened, to break whoever reads them: null statistics, no crash, no hang."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakefeed import Audio, Video
from lakefeed.errors import FormatError, MissingDependencyError
from lakefeed.media import MEDIA
from lakefeed.media.probes import Probes
from lakefeed.media.probing import av_probe
from tests.sdk.media.pictures import encoded
from tests.sdk.media.recorded import RRD_SECONDS, make_audio, make_mcap, make_rrd, make_video

# Which bytes a damaged file may still be read from is the library's business; that somebody answers is ours.
PROBED = sorted(name for name, media in MEDIA.items() if media.stat_fields)


@pytest.fixture(scope="module")
def probes() -> Iterator[Probes]:
    with Probes(workers=1, timeout=10.0) as pool:
        yield pool


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    """Healthy files of each type."""
    folder = tmp_path_factory.mktemp("whole")
    paths = {
        "video": [
            make_video(folder / "a.mp4", 12),
            make_video(folder / "a.mkv", 12),
            make_video(folder / "a.avi", 12, codec="mpeg4"),
        ],
        "audio": [
            make_audio(folder / "a.wav", 0.2),
            make_audio(folder / "a.flac", 0.2, codec="flac"),
            make_audio(folder / "a.mp3", 0.2, codec="libmp3lame"),
            make_audio(folder / "a.opus", 0.2, 48_000, codec="libopus"),
        ],
        "mcap": [make_mcap(folder / "a.mcap")],
        "rrd": [make_rrd(folder / "a.rrd")],
    }
    images = [encoded(name) for name in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "AVIF")]
    return {"image": images, **{name: [Path(path).read_bytes() for path in some] for name, some in paths.items()}}


def fields(media: str) -> set[str]:
    return {field.name for field in MEDIA[media].stat_fields}


def test_the_healthy_ones_are_read(probes: Probes, whole: dict[str, list[bytes]]) -> None:
    assert set(whole) == set(PROBED)
    for media, contents in whole.items():
        for stats in probes.submit(media, contents).result():
            assert set(stats) == fields(media)
            assert None not in stats.values()


@settings(max_examples=25)
@given(data=st.data())
def test_damage_is_survived(probes: Probes, whole: dict[str, list[bytes]], data: st.DataObject) -> None:
    media = data.draw(st.sampled_from(PROBED))
    damaged = [data.draw(_damaged(content)) for content in whole[media]]
    found = probes.submit(media, damaged).result()
    assert len(found) == len(damaged)
    assert all(set(stats) in (set(), fields(media)) for stats in found)


@settings(max_examples=25)
@given(contents=st.lists(st.binary(max_size=300), min_size=1, max_size=5), media=st.sampled_from(PROBED))
def test_any_bytes_are_survived(probes: Probes, contents: list[bytes], media: str) -> None:
    assert len(probes.submit(media, contents).result()) == len(contents)


def test_every_type_is_given_every_other(probes: Probes, whole: dict[str, list[bytes]]) -> None:
    for media in PROBED:
        for other, contents in whole.items():
            # Not AVIF, which is a video of one picture.
            strange = [content for content in contents if content[4:8] != b"ftyp"]
            if media != other:
                assert probes.submit(media, strange).result() == [{}] * len(strange)


def test_zero_bytes_and_a_wrong_suffix(probes: Probes, tmp_path: Path) -> None:
    for media in PROBED:
        paths = []
        for name, content in (("empty", b""), ("text", b"plain words\n" * 99), ("zeros", b"\0" * 100_000)):
            path = tmp_path / f"{name}{next(iter(MEDIA[media].content_types))}"
            path.write_bytes(content)
            paths.append(str(path))
        assert probes.submit(media, paths).result() == [{}, {}, {}]


def test_what_is_no_file(probes: Probes, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    paths = [str(tmp_path / "pipe.png"), "/dev/zero", "/dev/stdin", str(tmp_path), str(tmp_path / "none"), "\0", ""]
    for media in PROBED:
        assert probes.submit(media, paths).result() == [{}] * len(paths)


def test_boxes_in_boxes(probes: Probes) -> None:
    """An MP4 of ten thousand boxes, each within the other."""
    body = b""
    for _ in range(10_000):
        body = struct.pack(">I4s", len(body) + 8, b"moov") + body
    assert probes.submit("video", [struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + body]).result() == [{}]


@pytest.mark.parametrize("claim", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_box_that_claims_a_length(probes: Probes, whole: dict[str, list[bytes]], claim: int) -> None:
    content = whole["video"][0]
    place = content.index(b"moov") - 4
    lying = content[:place] + struct.pack(">I", claim) + content[place + 4 :]
    assert len(probes.submit("video", [lying]).result()) == 1


def test_tables_that_claim_to_be_endless(probes: Probes, whole: dict[str, list[bytes]]) -> None:
    """The counts of an MP4's sample tables, each set to the greatest number."""
    content = whole["video"][0]
    lying = []
    for name in (b"stts", b"stsz", b"stsc", b"stco", b"ctts", b"stss", b"elst", b"stsd", b"dref"):
        place = content.find(name)
        if place > 0:
            lying.append(content[: place + 8] + b"\x7f\xff\xff\xff" * 2 + content[place + 16 :])
    assert len(lying) >= 6
    assert len(probes.submit("video", lying).result()) == len(lying)


def test_dimensions_that_no_screen_has(probes: Probes) -> None:
    gif = encoded("GIF")
    huge = gif[:6] + b"\xff\xff\xff\xff" + gif[10:]
    bitmap = bytearray(encoded("BMP"))
    bitmap[18:26] = struct.pack("<ii", 2**31 - 1, 2**31 - 1)
    negative = bytearray(encoded("BMP"))
    negative[18:22] = struct.pack("<i", -5)
    for stats in probes.submit("image", [huge, bytes(bitmap), bytes(negative)]).result():
        assert all(0 <= (side or 0) < 2**31 for side in stats.values())


def test_a_zip_bomb_in_a_scene_is_not_looked_into() -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scene.usda", b"\0" * 50_000_000)
    with Probes() as probes:
        assert probes.submit("3d", [sink.getvalue()]).result() == [{}]
        assert not probes._all


def test_an_rrd_whose_index_lies(probes: Probes, whole: dict[str, list[bytes]]) -> None:
    content = whole["rrd"][0]
    footers, places = len(content) - 12, len(content) - 32
    endless = content[: footers + 8] + b"\xff\xff\xff\xff"
    itself = content[:places] + struct.pack("<QQI", places, 20, 0) + content[footers:]
    far = content[:places] + struct.pack("<QQI", 2**63, 2**62, 0) + content[footers:]
    assert probes.submit("rrd", [content, endless, itself, far]).result() == [
        {"duration_seconds": RRD_SECONDS}, {}, {}, {}
    ]  # fmt: skip


def test_an_mcap_whose_summary_lies(probes: Probes, whole: dict[str, list[bytes]]) -> None:
    content = whole["mcap"][0]
    footer = content.rindex(b"\x02" + struct.pack("<Q", 20))
    for start in (0, 1, len(content) * 2, 2**64 - 1):
        lying = content[: footer + 9] + struct.pack("<Q", start) + content[footer + 17 :]
        assert len(probes.submit("mcap", [lying]).result()) == 1


def test_a_missing_library_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, whole: dict[str, list[bytes]], tmp_path: Path
) -> None:
    for name in ("av", "mcap", "PIL"):  # found first, and no library
        (tmp_path / f"{name}.py").write_text("raise ImportError('not installed')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for media, extra in (("video", "media"), ("audio", "media"), ("mcap", "mcap"), ("image", "media")):
        with Probes(workers=1) as probes:
            asked = probes.submit(media, whole[media] * 3)
            with pytest.raises(MissingDependencyError, match=rf"pip install 'lakefeed\[{extra}\]'.*stats=False"):
                asked.result()


def test_a_long_file_without_a_count_is_not_counted(
    monkeypatch: pytest.MonkeyPatch, whole: dict[str, list[bytes]]
) -> None:
    monkeypatch.setattr(av_probe, "MAX_COUNT_BYTES", 100)
    assert av_probe.probe_video(io.BytesIO(whole["video"][1]))["num_frames"] is None
    assert av_probe.probe_video(io.BytesIO(whole["video"][0]))["num_frames"] == 12


def test_an_unknown_codec(probes: Probes, whole: dict[str, list[bytes]]) -> None:
    content = whole["video"][0].replace(b"avc1", b"zzzz")
    assert probes.submit("video", [content]).result() == [{}]
    with pytest.raises(FormatError, match="codec of the video is not known"):
        next(Video(data=content).frames())


@settings(max_examples=25)
@given(data=st.data())
def test_decoding_what_is_damaged_raises_one_kind_of_error(whole: dict[str, list[bytes]], data: st.DataObject) -> None:
    with contextlib.suppress(FormatError):
        list(Video(data=data.draw(_damaged(data.draw(st.sampled_from(whole["video"]))))).frames(9))
    with contextlib.suppress(FormatError):
        Audio(data=data.draw(_damaged(data.draw(st.sampled_from(whole["audio"]))))).samples(0.1, sample_rate=8_000)


@st.composite
def _damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Cut short, bits turned over, a part zeroed, repeated or taken out."""
    data = bytearray(content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content)
    for place in draw(st.lists(st.integers(0, max(len(data) - 1, 0)), max_size=8)):
        if data:
            data[place] ^= 1 << draw(st.integers(0, 7))
    if draw(st.booleans()) and data:
        start, size = draw(st.integers(0, len(data) - 1)), draw(st.integers(0, 64))
        part = draw(st.sampled_from([b"\0" * size, b"\xff" * size, b"", bytes(data[start : start + size]) * 2]))
        data[start : start + size] = part
    return bytes(data)
