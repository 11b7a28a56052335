from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakefeed.errors import FileError, IntegrityError, InvalidArgumentError, MissingDependencyError, UnsupportedError
from lakefeed.media import MCAP, RRD, Audio, File, Image, Model3D, Video, handles, store_column
from lakefeed.media.probing import av_probe
from lakefeed.media.probing import image_probe as probing_image
from lakefeed.storage import BlobStore
from lakefeed.storage.disk.hashing import sha256_bytes
from tests.sdk.media.pictures import HEIGHT, WIDTH, encoded, write


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path / "blobs"), tmp_path / "cache")


@pytest.fixture
def image(store: BlobStore, tmp_path: Path) -> Image:
    column = pa.array([write(tmp_path / "cat.png"), None])
    cells = store_column(column, "image", store, copy="auto", stats=True, column_name="img")
    handle, null = handles(cells, "image", store)
    assert null is None
    assert isinstance(handle, Image)
    return handle


def test_a_stored_image(image: Image) -> None:
    assert (image.width, image.height, image.size, image.url) == (WIDTH, HEIGHT, len(encoded()), None)
    assert image.bytes() == encoded() == image.path().read_bytes()
    assert (image.suffix, image.path().suffix) == (".png", ".png")
    with image.open() as stream:
        assert (stream.seekable(), stream.read()) == (True, encoded())
    assert image.location is not None
    assert image.location.startswith("file://")


def test_handles_are_lazy(store: BlobStore) -> None:
    [handle] = handles(pa.array([{"url": None, "sha256": "0" * 64}]), "image", store)
    assert "sha256=000000000000…" in repr(handle)


def test_handles_pickle_and_compare_by_what_they_refer_to(image: Image) -> None:
    again = pickle.loads(pickle.dumps(image))
    assert again == image
    assert hash(again) == hash(image)
    assert again.bytes() == encoded()
    assert File(data=b"a") != File(data=b"b")
    with pytest.raises(dataclasses.FrozenInstanceError):
        image.url = "other"  # type: ignore[misc]


@pytest.mark.parametrize("kind", [Audio, File, Image, MCAP, Model3D, RRD, Video])
@pytest.mark.parametrize(
    "given",
    [{"url": 5}, {"url": Path("a")}, {"url": b"a"}, {"sha256": b"a"}, {"data": "a"}, {"size": "5"}, {"size": True}],
)
def test_what_no_handle_can_be_made_of_is_told_at_once(kind: type[File], given: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=f"{kind.__name__}\\({next(iter(given))}="):
        kind(**given)


def test_a_record_survives_the_way_there_and_back(image: Image, store: BlobStore) -> None:
    assert handles(pa.array([image.record()]), "image", store) == [image]


def test_repr(image: Image) -> None:
    digest = sha256_bytes(encoded())[:12]
    assert repr(image) == f"Image('cat.png', {WIDTH}x{HEIGHT}, image/png, {len(encoded())} B, sha256={digest}…)"
    assert repr(Image("s3://b/cat.png")) == "Image('s3://b/cat.png')"
    assert repr(File(size=3 << 20, content_type="text/csv")) == "File(text/csv, 3.0 MiB)"
    assert repr(Image(size=1023)) == "Image(1023 B)"
    assert repr(File()) == "File()"


def test_html_is_a_small_thumbnail(store: BlobStore) -> None:
    import PIL.Image

    shown = Image(data=encoded())._repr_html_()
    assert shown.startswith('<img src="data:image/png;base64,')
    large = PIL.Image.effect_noise((2000, 1000), 50)
    for mode in ("L", "RGB", "CMYK", "I;16", "F"):
        path = store.cache_dir / f"{mode[0]}.tiff"
        path.parent.mkdir(exist_ok=True)
        large.convert(mode if mode != "I;16" else "I").convert(mode).save(path)
        assert len(Image(str(path))._repr_html_()) < 200_000


@pytest.mark.parametrize("content", [b"", b"no image", encoded()[:50]])
def test_html_never_fails_and_never_lets_markup_through(content: bytes) -> None:
    shown = Image(data=content, filename="<script>alert('x')</script>.png")._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "<code>" in Image("https://host/<b>.png")._repr_html_()
    assert "<b>" not in File("<b>")._repr_html_()


def test_handles_without_a_store(tmp_path: Path) -> None:
    path = write(tmp_path / "cat.png")
    assert Image(path).bytes() == encoded()
    assert Image(path).path() == Path(path)
    assert Image(path).open().read() == encoded()
    assert Image(data=encoded()).open().read() == encoded()
    with pytest.raises(FileError, match="not bound to a blob store"):
        Image(sha256="0" * 64).bytes()
    with pytest.raises(FileError, match="neither url nor sha256"):
        Image().bytes()
    with pytest.raises(FileError, match=r"use bytes\(\)"):
        Image(data=encoded()).path()
    with pytest.raises(FileError, match=r"use bytes\(\)"):
        Image("https://host/cat.png").path()
    with pytest.raises(UnsupportedError):
        Image("ftp://host/cat.png").bytes()


def test_a_digest_beside_a_url_is_checked(tmp_path: Path) -> None:
    path = write(tmp_path / "cat.png")
    assert Image(path, sha256=sha256_bytes(encoded())).bytes() == encoded()
    with pytest.raises(IntegrityError, match=r"cat\.png.*holds other bytes"):
        Image(path, sha256="0" * 64).bytes()


def test_importing_media_does_not_import_pillow() -> None:
    script = "import sys, lakefeed.media; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0


@pytest.mark.parametrize(
    ("library", "loaded", "decode"),
    [
        ("PIL.Image", probing_image.pillow, lambda: Image(data=encoded()).pil()),
        ("av", av_probe.pyav, lambda: next(Video(data=b"x").frames())),
        ("av", av_probe.pyav, lambda: Audio(data=b"x").samples()),
        ("av", av_probe.pyav, lambda: Audio(data=b"x").info()),
    ],
)
def test_decoding_without_the_library_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, library: str, loaded: Any, decode: Callable[[], object]
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    loaded.cache_clear()
    try:
        with pytest.raises(MissingDependencyError, match=r"pip install 'lakefeed\[media\]'"):
            decode()
    finally:
        loaded.cache_clear()


def test_a_page_cannot_be_written_into() -> None:
    for kind in (File, Image, Video, Audio, Model3D, MCAP, RRD):
        shown = kind(data=b"<script>", filename="<script>alert(1)</script>", content_type="<script>")._repr_html_()
        assert "<script>" not in shown
