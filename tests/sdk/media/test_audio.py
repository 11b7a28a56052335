from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lakefeed import Audio
from lakefeed.errors import FormatError, InvalidArgumentError, MissingFileError
from lakefeed.media import audio
from lakefeed.media.image import sniff as sniff_image
from lakefeed.media.video import sniff as sniff_video
from lakefeed.storage import BlobStore
from tests.sdk.media.recorded import make_audio, make_video, wave

SECONDS = 4.0
KINDS: dict[str, dict[str, Any]] = {
    "a.wav": {},
    "deep.wav": {"codec": "pcm_s24le"},
    "coarse.wav": {"codec": "pcm_u8"},
    "float.wav": {"codec": "pcm_f32le"},
    "a.aiff": {"codec": "pcm_s16be"},
    "a.caf": {},
    "a.flac": {"codec": "flac"},
    "a.mp3": {"codec": "libmp3lame"},
    "a.opus": {"codec": "libopus", "rate": 48_000},
    "a.mka": {"codec": "libopus", "rate": 48_000},
    "a.weba": {"codec": "libopus", "rate": 48_000, "format_name": "webm"},
    "a.m4a": {"codec": "aac"},
    "a.aac": {"codec": "aac"},
}
LOSSY = 0.03
PADDED = {"a.m4a", "a.aac"}  # whole blocks of 1,024 samples


@pytest.fixture(scope="module", params=KINDS)
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Audio:
    path = tmp_path_factory.mktemp("sounds") / request.param
    return Audio(make_audio(path, SECONDS, channels=2, **KINDS[request.param]))


@pytest.fixture
def mono(tmp_path: Path) -> Audio:
    return Audio(make_audio(tmp_path / "mono.wav"))


def rate_of(sound: Audio) -> int:
    return int(KINDS[sound.name].get("rate", 16_000))


def test_statistics(sound: Audio) -> None:
    found = sound.info()
    assert (found["sample_rate"], found["channels"]) == (rate_of(sound), 2)
    assert found["duration_seconds"] == pytest.approx(SECONDS, abs=0.15 if sound.name in PADDED else 0.01)


def test_samples_are_those_that_were_saved(sound: Audio) -> None:
    rate = rate_of(sound)
    found, made = sound.samples(), wave(SECONDS, rate, 2)
    assert (found.dtype, found.shape[1]) == (np.float32, 2)
    if sound.name == "a.aac":  # it has no place to say that its first block is silence
        found = found[1024:]
    assert len(found) >= len(made)
    assert len(found) == len(made) or sound.name in PADDED
    assert np.abs(found[: len(made)] - made).mean() < LOSSY


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0.5, 0.75), (2, 2.5), (3.333, 3.9), (3.9, 90), (90, 91), (1, 1)])
def test_a_part_is_exactly_that_part(sound: Audio, start: float, stop: float) -> None:
    rate, whole = rate_of(sound), sound.samples()
    assert np.array_equal(sound.samples(start, stop), whole[round(start * rate) : round(stop * rate)])


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("ms.wav", "adpcm_ms"),
        ("ima.wav", "adpcm_ima_wav"),
        ("yamaha.wav", "adpcm_yamaha"),
        ("mp2.wav", "mp2"),
        ("ms.w64", "adpcm_ms"),
        ("ima.aiff", "adpcm_ima_qt"),
        ("ac3.mp4", "ac3"),
    ],
)
def test_a_part_is_exact_where_samples_depend_on_earlier_ones(tmp_path: Path, name: str, codec: str) -> None:
    rate = 48_000 if codec == "ac3" else 16_000
    sound = Audio(make_audio(tmp_path / name, 4.0, rate, codec=codec))
    whole = sound.samples()
    for start, stop in ((1.5, 1.7), (2.0, 2.1), (3.3, 3.4)):
        assert np.array_equal(sound.samples(start, stop), whole[round(start * rate) : round(stop * rate)])


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.caf", "a.w64", "a.au", "a.mka"])
def test_a_truncated_file_raises_where_the_range_is_not_whole(tmp_path: Path, name: str) -> None:
    codec = "pcm_s16be" if name[2:] in {"aiff", "caf", "au"} else "pcm_s16le"
    content = Path(make_audio(tmp_path / name, codec=codec)).read_bytes()
    assert len(Audio(data=content).samples()) == 24_000
    truncated = Audio(data=content[: len(content) * 6 // 10])
    with pytest.raises(FormatError, match="the file is truncated"):
        truncated.samples()
    if name != "a.mka":
        assert len(truncated.samples(0.25, 0.5)) == 4_000


@pytest.mark.parametrize(("name", "codec"), [("a.mp3", "libmp3lame"), ("a.ogg", "flac"), ("a.opus", "libopus")])
def test_a_truncated_file_without_a_size_of_its_samples_raises(tmp_path: Path, name: str, codec: str) -> None:
    content = Path(make_audio(tmp_path / name, 4.0, codec=codec)).read_bytes()
    whole = Audio(data=content + b"TAG" + bytes(125)).samples() if name == "a.mp3" else Audio(data=content).samples()
    assert abs(len(whole) - 4 * len(whole) // round(Audio(data=content).info()["duration_seconds"] or 0)) < 1_000
    for share in (5, 6, 7):
        truncated = Audio(data=content[: len(content) * share // 10])
        with pytest.raises(FormatError, match="the file is truncated"):
            truncated.samples()
        assert len(truncated.samples(0.0, 0.5)) > 4_000


def test_sizes_that_are_not_known(tmp_path: Path) -> None:
    content = Path(make_audio(tmp_path / "a.wav")).read_bytes()
    at = content.index(b"data") + 4
    piped = content[:4] + b"\xff" * 4 + content[8:at] + b"\xff" * 4 + content[at + 4 :]
    assert len(Audio(data=piped).samples()) == 24_000


def test_mono_has_one_channel(mono: Audio) -> None:
    assert mono.samples().shape == (24_000, 1)


def test_another_rate(mono: Audio) -> None:
    found = mono.samples(0.5, 1.0, sample_rate=8_000)
    assert found.shape == (4_000, 1)
    assert np.abs(found[100:-100] - wave(1.5, 8_000)[4_100:7_900]).mean() < 0.01
    assert mono.samples(90, sample_rate=8_000).shape == (0, 1)


@pytest.mark.parametrize("wrong", [{"start": -1}, {"stop": -0.1}, {"sample_rate": 0}, {"start": math.nan}])
def test_what_cannot_be_asked(mono: Audio, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="times are 0 or more"):
        mono.samples(**wrong)


def test_the_sound_of_a_video_container(tmp_path: Path) -> None:
    assert Audio(make_audio(tmp_path / "song.mp4", codec="aac")).info()["sample_rate"] == 16_000


def test_what_is_no_sound(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no audio"):
        Audio(make_video(tmp_path / "silent.mp4", 3)).samples()
    with pytest.raises(FormatError):
        Audio(data=b"plain words").samples()
    with pytest.raises(MissingFileError):
        Audio(str(tmp_path / "nosuch.wav")).samples()


def test_first_bytes_tell_the_type(sound: Audio) -> None:
    head = sound.bytes()[:64]
    expected = audio.AUDIO.content_types[sound.suffix]
    # Matroska and WebM are video for all that their first bytes tell.
    assert audio.sniff(head) == (None if sound.suffix in {".mka", ".weba"} else expected)
    assert sniff_image(head) is None
    assert (sniff_video(head) is not None) == (sound.suffix in {".mka", ".weba"})


@pytest.mark.parametrize(
    "head", [b"", b"\xff", b"\xff\xfe a text in UTF-16", b"\xff\xd8\xff\xe0 a photo", b"\xff" * 64, b"words"]
)
def test_first_bytes_of_something_else(head: bytes) -> None:
    assert audio.sniff(head) is None


def test_repr_and_notebook(mono: Audio, tmp_path: Path) -> None:
    known = Audio("a.wav", duration_seconds=1.5, sample_rate=16_000, channels=1)
    assert repr(known) == "Audio('a.wav', 1.5 s, 16000 Hz, 1 ch)"
    assert known._repr_html_() == "<code>Audio(&#x27;a.wav&#x27;, 1.5 s, 16000 Hz, 1 ch)</code>"
    played = Audio(data=mono.bytes(), content_type="audio/wav")._repr_html_()
    assert played.startswith('<audio controls src="data:audio/wav;base64,')
    assert "<audio" not in Audio(data=b"x" * (audio.MAX_PLAYER_BYTES + 1))._repr_html_()
    assert '"><script>' not in Audio(data=b"x", content_type='"><script>')._repr_html_()
    gone = Audio(sha256="0" * 64, size=9, store=BlobStore(str(tmp_path / "blobs"), tmp_path / "cache"))
    assert gone._repr_html_().startswith("<code>")
