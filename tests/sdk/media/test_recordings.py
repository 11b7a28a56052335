from __future__ import annotations

import io
from pathlib import Path

import pytest

from lakefeed import MCAP, RRD
from lakefeed.errors import FormatError
from lakefeed.media import MEDIA
from lakefeed.media.probing.mcap_probe import probe_mcap
from lakefeed.media.probing.rrd_probe import probe_rrd
from tests.sdk.media.recorded import RRD_SECONDS, make_mcap, make_rrd


def test_length_of_mcap(tmp_path: Path) -> None:
    for name, seconds, options in (
        ("a", 2.5, {}),
        ("one", 0.0, {"messages": 1}),
        ("none", None, {"messages": 0}),
        ("no-statistics", None, {"statistics": False}),
    ):
        with Path(make_mcap(tmp_path / f"{name}.mcap", **options)).open("rb") as file:  # type: ignore[arg-type]
            assert probe_mcap(file) == {"duration_seconds": seconds}


def test_length_of_rrd(tmp_path: Path) -> None:
    with Path(make_rrd(tmp_path / "a.rrd")).open("rb") as file:
        assert probe_rrd(file) == {"duration_seconds": RRD_SECONDS}


def test_an_rrd_that_was_never_closed_has_no_length(tmp_path: Path) -> None:
    whole = Path(make_rrd(tmp_path / "a.rrd")).read_bytes()
    for length in (4, 12, len(whole) // 2, len(whole) - 1):
        assert probe_rrd(io.BytesIO(whole[:length])) == {"duration_seconds": None}


def test_what_is_no_recording() -> None:
    for probe in (probe_mcap, probe_rrd):
        for content in (b"", b"plain words", b"\0" * 1000):
            with pytest.raises(FormatError):
                probe(io.BytesIO(content))


def test_the_library_reads_what_the_handle_opens(tmp_path: Path) -> None:
    from mcap.reader import make_reader

    with MCAP(make_mcap(tmp_path / "a.mcap")).open() as file:
        assert len(list(make_reader(file).iter_messages())) == 6


def test_first_bytes_tell_the_type(tmp_path: Path) -> None:
    for name, make in (("mcap", make_mcap), ("rrd", make_rrd)):
        head = Path(make(tmp_path / name)).read_bytes()[:64]
        assert [other for other, media in MEDIA.items() if media.sniff(head) is not None] == [name]


def test_repr() -> None:
    assert repr(MCAP("drive.mcap", duration_seconds=12.5)) == "MCAP('drive.mcap', 12.5 s)"
    assert repr(RRD("run.rrd", duration_seconds=12.5)) == "RRD('run.rrd', 12.5 s)"
    assert repr(RRD("run.rrd")) == "RRD('run.rrd')"
