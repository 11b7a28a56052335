from __future__ import annotations

from pathlib import Path

import pytest

from lakefeed.storage.urls import file_name, local_path, scheme, suffix


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("cat.jpg", "cat.jpg"),
        ("/data/a?b#c.jpg", "/data/a?b#c.jpg"),
        ("file:///data/my%20cat.jpg", "/data/my cat.jpg"),
        ("file:///data/a#b.jpg", "/data/a#b.jpg"),
        ("FILE://localhost/data/cat.jpg", "/data/cat.jpg"),
        ("C:/cat.jpg", "C:/cat.jpg"),
    ],
)
def test_local(text: str, path: str) -> None:
    assert local_path(text) == Path(path)


@pytest.mark.parametrize("text", ["https://host/cat.jpg", "s3://bucket/cat.jpg", "memory://cat.jpg", "http://[broken"])
def test_remote(text: str) -> None:
    assert local_path(text) is None
    assert scheme(text)


@pytest.mark.parametrize(
    ("text", "name", "ending"),
    [
        ("/a/Cat.JPG", "Cat.JPG", ".jpg"),
        ("https://host/a%20b.png?w=1&f=x.gif#y.bmp", "a b.png", ".png"),
        ("https://example.com", "", ""),
        ("http://[broken/x.png", "x.png", ".png"),
        ("s3://bucket/brain.nii.gz", "brain.nii.gz", ".nii.gz"),
        ("a.tar.gz", "a.tar.gz", ".tar.gz"),
        ("v1.2.png", "v1.2.png", ".png"),
        (".hidden", ".hidden", ""),
        ("name.not a suffix", "name.not a suffix", ""),
        ("", "", ""),
    ],
)
def test_names(text: str, name: str, ending: str) -> None:
    assert (file_name(text), suffix(name)) == (name, ending)
