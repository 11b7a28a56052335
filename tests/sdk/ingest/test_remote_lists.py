"""A list, a table or a redirect from another machine never chooses what is read on this one."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed import Dataset
from lakefeed.errors import FileError, FormatError, InvalidArgumentError, RefusedTargetError
from lakefeed.ingest import FolderSource, ManifestSource, WebSource, arrivals, ingest
from lakefeed.ingest.page_links import names_below
from lakefeed.storage.archives.url_chains import parse_chain
from lakefeed.storage.listed_urls import resolve_listed
from lakefeed.storage.urls import scheme
from tests.sdk.web import Site, answers, redirects, serving

pytest.importorskip("urllib3")

SECRET = b"x\n666\n"


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("LAKEFEED__FILES__MIN_WAIT", "0")
    monkeypatch.setenv("LAKEFEED__FILES__RETRIES", "1")
    with serving() as found:
        found.put("in/a.csv", b"x\n1\n")
        found.put("in/b.csv", b"x\n2\n")
        found.put("other/c.csv", b"x\n3\n")
        yield found


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.csv"
    path.write_bytes(SECRET)
    fsspec.filesystem("memory").pipe("/secret.csv", SECRET)
    return path


def taken(source: Any) -> list[tuple[str, ...]]:
    return [result.files for result in ingest(source)]


def values(name: str = "numbers") -> list[Any]:
    found: list[Any] = Dataset(name).to_arrow()["x"].to_pylist() if Dataset.exists(name) else []
    return sorted(found)


def entries(web: Site, secret: Path) -> list[str]:
    """Ways to say "the secret file", or a host that was not asked for, in a list."""
    path = str(secret)
    other = web.url.replace("127.0.0.1", "localhost")
    return [
        f"file://{path}", f"FILE://{path}", f"file:{path}", f"file://localhost{path}", f"local://{path}",
        "memory://secret.csv", f"simplecache::file://{path}", f"filecache://x::file://{path}",
        f"simplecache://::file://{path}", f"blockcache::{path}", f"zip://a.csv::file://{path}",
        f"gzip://::file://{path}", f"tar://*.csv::local://{path}", f"dir://{path}", f"reference://::file://{path}",
        f"asynclocal://{path}", f"root://{path}", f"\x09file://{path}", f"{other}/in/a.csv", f"//localhost/{path}",
        "//127.0.0.1/in/a.csv", "http://127.0.0.1@localhost/a.csv", f"ftp://127.0.0.1{path}", "s3://bucket/a.csv",
        "http:///a.csv", "http://[::1/a.csv", f"\\\\host\\{path}", f"{web.url}/in/../../..{path}",
        f"{web.url}/in/%2e%2e/other/c.csv", "../../etc/%2e%2E/a.csv", "data:text/csv,x%0A666",
    ]  # fmt: skip


def test_a_manifest_of_the_web_names_files_of_its_host_only(web: Site, secret: Path) -> None:
    url = web.put("in/files.txt", f"a.csv\n{web.url}/in/b.csv\n/other/c.csv\n# no\n".encode())
    assert taken(ManifestSource("numbers", "numbers", url)) == [("/other/c.csv", "a.csv", f"{web.url}/in/b.csv")]
    assert values() == [1, 2, 3]
    for entry in entries(web, secret):
        url = web.put("in/files.txt", f"a.csv\n{entry}\n".encode())
        with pytest.raises(RefusedTargetError, match=r"the list .*files\.txt' names"):
            taken(ManifestSource("bad", "bad", url))
        web.put("in/rows.csv", f'url\na.csv\n"{entry}"\n'.encode())
        with pytest.raises(RefusedTargetError, match="names"):
            taken(ManifestSource("bad", "bad", f"{web.url}/in/rows.csv"))
        web.always["/in/moved.txt"] = redirects("/in/files.txt")
        with pytest.raises(RefusedTargetError, match="names"):
            taken(ManifestSource("bad", "bad", f"{web.url}/in/moved.txt"))
    assert not Dataset.exists("bad")
    assert not set(web.asked) & {f"{secret}", "/secret.csv"}


def test_a_path_in_a_manifest_of_the_web_is_one_on_its_host(web: Site, secret: Path) -> None:
    url = web.put("in/files.txt", f"{secret}\n".encode())
    with pytest.raises(FileError, match="there is no file"):
        taken(ManifestSource("numbers", "numbers", url))
    assert values() == []
    web.put(str(secret).lstrip("/"), b"x\n5\n")
    taken(ManifestSource("numbers", "numbers", url))
    assert values() == [5]


def test_other_hosts_have_to_be_allowed(web: Site) -> None:
    other = web.url.replace("127.0.0.1", "localhost")
    url = web.put("in/files.txt", f"{other}/in/a.csv\n".encode())
    for allow in ((), (f"{other}/out",), (f"{other}/i",), (f"{other}1/",), ("https://localhost/",)):
        with pytest.raises(RefusedTargetError, match="allow="):
            taken(ManifestSource("numbers", "numbers", url, allow=allow))
    assert taken(ManifestSource("numbers", "numbers", url, allow=(f"{other}/in",))) == [(f"{other}/in/a.csv",)]
    for wrong in ("/data", "file:///data", "https://", "simplecache::https://host/", ""):
        with pytest.raises(InvalidArgumentError, match="allow has"):
            ManifestSource("numbers", "numbers", url, allow=(wrong,))


def test_lists_of_stores_and_of_this_machine() -> None:
    base = "s3://bucket/lists/today.txt"
    good = {
        "a.csv": "s3://bucket/lists/a.csv", "sub/a.csv": "s3://bucket/lists/sub/a.csv", "/a.csv": "s3://bucket/a.csv",
        "s3://bucket/x.csv": "s3://bucket/x.csv", "s3a://bucket/x.csv": "s3a://bucket/x.csv",
        "zip://*.csv::a.zip": "zip://*.csv::s3://bucket/lists/a.zip",
    }  # fmt: skip
    for entry, expected in good.items():
        assert resolve_listed(base, entry) == expected
    for entry in (
        "s3://other/x.csv",
        "https://host/a.csv",
        "file:///etc/passwd",
        "../../x",
        "memory://a.csv",
        "gs://bucket/a",
    ):
        with pytest.raises(RefusedTargetError):
            resolve_listed(base, entry)
    assert resolve_listed(base, "https://host/a/b.csv", ["https://host/a/"]) == "https://host/a/b.csv"
    assert resolve_listed("s3://bucket/today.txt", "a.csv") == "s3://bucket/a.csv"
    assert resolve_listed("gzip://::https://host/x/l.txt.gz", "a.csv") == "https://host/x/a.csv"
    assert resolve_listed("http://host/l.txt", "https://host/a.csv") == "https://host/a.csv"
    with pytest.raises(RefusedTargetError):
        resolve_listed("https://host/l.txt", "http://host/a.csv")
    for entry in ("a.csv", "/data/a.csv", "file:///data/a.csv", "https://host/a.csv"):
        assert resolve_listed("lists/today.txt", entry) == entry == resolve_listed("file:///lists/today.txt", entry)


def test_a_manifest_that_makes_no_sense(web: Site) -> None:
    with pytest.raises(FormatError, match="not UTF-8"):
        taken(ManifestSource("numbers", "numbers", web.put("in/files.txt", b"\xff\xfe\x00")))
    with pytest.raises(LookupError, match="no column 'url' in the manifest"):
        taken(ManifestSource("numbers", "numbers", web.put("in/list.csv", b"link\na\n")))


def test_a_signature_is_sent_as_it_is_and_makes_no_other_file(web: Site) -> None:
    sent: list[str] = []

    def note(handler: Any) -> None:
        sent.append(handler.path)
        handler.serve()

    web.always["/in/a.csv"] = note
    signatures = {
        "azure": "sv=2024-11-04&se=2026-01-0{0}T00%3A00%3A00Z&sr=b&sp=r&sig=a%2Fb{0}%3D",
        "s3": "X-Amz-Algorithm=AWS4&X-Amz-Date=2026010{0}&X-Amz-Expires=60&X-Amz-Signature={0}ab",
        "gcs": "X-Goog-Credential=me%2F{0}&X-Goog-Signature={0}ab",
        "front": "Expires={0}&Signature=a~b{0}_&Key-Pair-Id=K",
    }
    for name, query in signatures.items():
        for turn in (1, 2):
            text = f"{web.url}/in/a.csv?id=7&{query.format(turn)}"
            source = ManifestSource(name, name, web.put("in/files.txt", text.encode()))
            assert [len(files) for files in taken(source)] == ([1] if turn == 1 else [])
        assert f"/in/a.csv?id=7&{query.format(1)}" in sent
        assert not any(query.format(2) in path for path in sent)
        assert arrivals(source).vanished == ()
    assert taken(ManifestSource("s3", "s3", web.put("in/files.txt", b"a.csv?id=8&X-Amz-Signature=1"))) != []


@pytest.mark.live
@pytest.mark.parametrize("name", ["files.txt", "files.txt.gz", "files.csv", "files.csv.gz", "files.jsonl.bz2"])
def test_a_manifest_may_be_compressed_and_have_any_line_ends(web: Site, home: Path, name: str) -> None:
    home.mkdir(exist_ok=True)
    lines = ['{"url": "a.csv"}', '{"url": "b.csv"}'] if "json" in name else ["a.csv", "b.csv"]
    lines = ["url", *lines] if "csv" in name else ["# today", *lines] if "txt" in name else lines
    (home / "a.csv").write_text("x\n1\n")
    (home / "b.csv").write_text("x\n2\n")
    for number, end in enumerate(["\n", "\r\n", "\r"]):
        content = ("\ufeff" + end.join(lines)).encode()
        content = gzip.compress(content) if name.endswith("gz") else content
        content = bz2.compress(content) if name.endswith("bz2") else content
        (home / name).write_bytes(content)
        for place in (web.put(f"in/{name}", content), name):
            into = f"n{number}{int(place == name)}"
            assert taken(ManifestSource(into, into, place)) == [("a.csv", "b.csv")]
            assert values(into) == [1, 2]


def test_a_compressed_manifest_that_ends_early_names_nothing(web: Site) -> None:
    url = web.put("in/files.txt.gz", gzip.compress(b"a.csv\nb.csv\n" * 100)[:-9])
    with pytest.raises((FormatError, FileError), match=r"files\.txt\.gz"):
        taken(ManifestSource("numbers", "numbers", url))


# ------------------------------------------------------------------------------------------------ web pages


def page(*links: str, head: str = "") -> bytes:
    return (head + "".join(f'<a href="{link}">x</a>' for link in links)).encode()


def test_links_of_a_page_count_below_it_only(web: Site, secret: Path) -> None:
    names = [
        "a.csv",
        "./b.csv#top",
        f"{web.url}/other/c.csv",
        "../other/c.csv",
        "/other/c.csv",
        "sub/",
        *entries(web, secret),
    ]
    web.put("in/", page(*names))
    source = WebSource("numbers", "numbers", f"{web.url}/in", "*.csv")
    assert taken(source) == [("a.csv", "b.csv")]
    assert values() == [1, 2]


@pytest.mark.parametrize("base", ["file:///etc/", "//localhost/in/", "s3://bucket/in/", "/other/", "http://[bad"])
def test_where_a_page_says_its_links_begin(web: Site, base: str, secret: Path) -> None:
    web.put("in/", page("c.csv", secret.name, head=f'<base href="{base}">'))
    assert taken(WebSource("numbers", "numbers", f"{web.url}/in")) == []
    web.put("in/", page("a.csv", head=f'<base href="{web.url}/in/">'))
    assert taken(WebSource("numbers", "numbers", f"{web.url}/in")) == [("a.csv",)]


def test_names_in_links_are_what_they_are(web: Site) -> None:
    for name in ("with space.csv", "100%.csv", "a?b#c.csv", "päth.csv", "sub/d.csv"):
        web.files[f"/in/{quote(name)}"] = b"x\n7\n"
    names = ["with space.csv", "100%.csv", "a?b#c.csv", "päth.csv", "sub/d.csv"]
    web.put("in/", page(*map(quote, names)))
    assert taken(WebSource("numbers", "numbers", f"{web.url}/in/")) == [tuple(sorted(names))]
    assert values() == [7] * 5


@pytest.mark.parametrize(
    "encoded",
    [
        lambda text: text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.encode("cp1252"),
        lambda text: b'<meta charset="iso-8859-15">' + text.encode("iso-8859-15"),
        lambda text: b'<META http-equiv=Content-Type content="text/html; charset=cp437">' + text.encode("cp437"),
        lambda text: b'<?xml version="1.0" encoding="latin-1"?>' + text.encode("latin-1"),
        lambda text: b'<meta charset="no such">' + text.encode(),
        lambda text: text.replace("é", "&eacute;").encode("ascii"),
        lambda text: text.replace("é", "%C3%A9").encode("ascii"),
    ],
)
def test_names_of_any_charset(web: Site, encoded: Any) -> None:
    for name in ("café.csv", "b:c.csv", "2026-01-01T10:00.csv", "a&b.csv", "a.csv;v=1.csv"):
        web.files[f"/in/{quote(name)}"] = b"x\n7\n"
    links = ["café.csv", "./b:c.csv", "2026-01-01T10:00.csv", "a&amp;b.csv", "a.csv;v=1.csv", "mailto:me@x.csv"]
    web.put("in/", encoded(page(*links).decode()))
    expected = ("2026-01-01T10:00.csv", "a&b.csv", "a.csv;v=1.csv", "b:c.csv", "café.csv")
    assert taken(WebSource("numbers", "numbers", f"{web.url}/in/")) == [expected]


def test_pages_are_of_the_web_and_folders_are_not() -> None:
    with pytest.raises(InvalidArgumentError, match="is not a web page"):
        WebSource("numbers", "numbers", "file:///etc")
    with pytest.raises(InvalidArgumentError, match="use WebSource"):
        FolderSource("numbers", "numbers", "https://host/in")


PIECES = [*"ab/.:\\?#%@[]* \t&;-", "file", "local", "memory", "s3", "http", "::", "//", "%2e", "é"]
BEGINNINGS = [
    "file://", "FILE:", "local://", "memory://", "simplecache::", "zip://a::", "gzip://::", "//", "http://host",
    "http:", "",
]  # fmt: skip
TEXT = st.lists(st.sampled_from(PIECES), max_size=9).map("".join)
ENTRIES = TEXT | st.builds("{}{}".format, st.sampled_from(BEGINNINGS), TEXT)


@given(ENTRIES, st.sampled_from(["http://host/in/list.txt", "https://host:8443/l.csv", "s3://bucket/in/list.txt"]))
def test_no_entry_of_a_remote_list_leads_anywhere_else(entry: str, base: str) -> None:
    try:
        url = resolve_listed(base, entry)
    except RefusedTargetError:
        return
    chain = parse_chain(url)
    assert all(link.kind in ("zip", "tar", "gzip", "bz2", "xz", "zstd", "lz4") for link in chain.links)
    assert scheme(chain.base) == scheme(base) or (scheme(base), scheme(chain.base)) in [
        ("s3", "s3a"),
        ("http", "https"),
    ]
    host = chain.base.partition("://")[2]
    assert host.split("?")[0].split("#")[0].partition("/")[0].rpartition("@")[2] == base.split("/")[2]


@given(st.lists(ENTRIES, max_size=4), st.none() | ENTRIES)
def test_no_link_of_a_page_leads_out_of_it(links: list[str], base: str | None) -> None:
    head = "" if base is None else f"<base href='{base}'>"
    for name in names_below("http://host/in/", page(*links, head=head).decode()):
        url = WebSource("n", "n", "http://host/in/").location(name)
        assert url.startswith("http://host/in/")
        assert ".." not in url.split("/")
        assert parse_chain(url).links == ()


# ------------------------------------------------------------------------------------------------ hosts, redirects


def test_denied_hosts_are_not_asked_for_rows_either(web: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    url, other = f"{web.url}/in/a.csv", web.url.replace("127.0.0.1", "localhost")
    web.put("in/files.txt", b"a.csv\n")
    web.put("in/", page("a.csv"))
    web.always["/in/moved.csv"] = redirects(f"{other}/in/a.csv")
    assert Dataset.from_file(f"{web.url}/in/moved.csv").count() == 1
    asked = len(web.requests)
    monkeypatch.setenv("LAKEFEED__FILES__DENY_HOSTS", '["127.0.0.1"]')
    for place in (url, url.replace("127.0.0.1", "localhost"), f"zip://a.csv::{web.url}/a.zip"):
        with pytest.raises(RefusedTargetError, match="deny_hosts"):
            Dataset.from_file(place)
    for source in (
        ManifestSource("numbers", "numbers", f"{web.url}/in/files.txt"),
        WebSource("numbers", "numbers", f"{web.url}/in"),
    ):
        with pytest.raises(RefusedTargetError, match="deny_hosts"):
            taken(source)
    assert len(web.requests) == asked
    monkeypatch.setenv("LAKEFEED__FILES__DENY_HOSTS", '["localhost"]')
    with pytest.raises(RefusedTargetError, match="deny_hosts"):
        Dataset.from_file(f"{web.url}/in/moved.csv")
    with pytest.raises(RefusedTargetError, match="deny_hosts"):
        Dataset.from_file("ftp://localhost/a.csv")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a.csv", "http://169.254.169.254/latest"])
def test_rows_behind_a_redirect_to_where_no_request_may_go(web: Site, target: str) -> None:
    web.always["/in/a.csv"] = redirects(target)
    with pytest.raises(RefusedTargetError):
        Dataset.from_file(f"{web.url}/in/a.csv")
    with pytest.raises(RefusedTargetError):
        Dataset.from_file("http://169.254.169.254/latest/a.csv")


def test_credentials_do_not_travel_to_another_host(web: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    given_headers = {"http": {"headers": {"Authorization": "Bearer 5ecret", "X-Key": "5ecret"}}}
    monkeypatch.setenv("LAKEFEED__FILES__OPTIONS", str(given_headers).replace("'", '"'))
    other = web.url.replace("127.0.0.1", "localhost")
    for target, sent in ((f"{other}/in/a.csv", False), ("/in/a.csv", True)):
        web.always["/in/moved.csv"] = redirects(target)
        web.headers.clear()
        assert Dataset.from_file(f"{web.url}/in/moved.csv").to_arrow()["x"].to_pylist() == [1]
        assert {("5ecret" in str(headers)) for headers in web.headers[::2]} == {True}
        assert {("5ecret" in str(headers)) for headers in web.headers[1::2]} == {sent}
    web.always["/in/moved.csv"] = redirects(f"{other}/in/a.csv")
    web.headers.clear()
    monkeypatch.delenv("LAKEFEED__FILES__OPTIONS")
    assert Dataset.from_file(f"{web.url.replace('//', '//me:5ecret@')}/in/moved.csv").count() == 1
    assert ["authorization" in str(headers).lower() for headers in web.headers[:2]] == [True, False]


# ------------------------------------------------------------------------------------------------ file columns


def rows_of(web: Site, *names: str) -> Dataset:
    return Dataset.from_file(
        web.put("rows.csv", "\n".join(["file,n", *(f'"{name}",1' for name in names), ""]).encode())
    )


@pytest.mark.parametrize("copy", ["auto", True, False])
def test_rows_of_another_machine_name_no_file_of_this_one(web: Site, secret: Path, tmp_path: Path, copy: Any) -> None:
    (secret.parent / "link.csv").symlink_to(secret)
    for name in (str(secret), f"file://{secret}", f"local://{secret}", "secret.csv", str(secret.parent / "link.csv")):
        rows = rows_of(web, f"{web.url}/in/a.csv", name)
        with pytest.raises(RefusedTargetError, match=r"'file', row 1: .* is a path of this machine"):
            rows.save("bad", column_types={"file": "file"}, copy_files=copy)
    for derived in (
        rows.rename({"file": "f"}).rename({"f": "file"}),
        rows.map(lambda row: {"file": row["file"], "n": 2}, schema=rows.schema),
        rows.sql("SELECT file, n FROM data"),
        rows.with_column("file", "file"),
        rows.mapped(),
        rows.cache(tmp_path / "kept"),
        rows.cache(tmp_path / "kept"),
        Dataset.from_dict({"n": [1], "m": [1]}).join(rows, "n"),
    ):
        with pytest.raises(RefusedTargetError, match="is a path of this machine"):
            derived.save("bad", column_types={"file": "file"}, copy_files=copy)
    assert not Dataset.exists("bad")
    assert rows.save("text", column_types=None).count() == 2


def test_columns_of_this_machine_beside_those_of_another(web: Site, secret: Path) -> None:
    near = Dataset.from_dict({"n": [1], "mine": [str(secret)]})
    both = near.join(rows_of(web, f"{web.url}/in/a.csv"), "n")
    saved = both.save("both", column_types={"mine": "file", "file": "file"})
    assert [row["mine"] for row in saved.load_files("bytes")] == [SECRET]


def test_folders_of_this_machine_may_be_allowed(web: Site, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__FILES__LOCAL_FOLDERS", f'["{secret.parent}"]')
    rows = rows_of(web, str(secret))
    assert [row["file"] for row in rows.save("one", column_types={"file": "file"}).load_files("bytes")] == [SECRET]
    (secret.parent / "out").mkdir()
    monkeypatch.setenv("LAKEFEED__FILES__LOCAL_FOLDERS", f'["{secret.parent}/out"]')
    for name in (str(secret), f"{secret.parent}/out/../secret.csv"):
        with pytest.raises(RefusedTargetError):
            rows_of(web, name).save("two", column_types={"file": "file"})


def test_files_that_are_ingested_from_another_machine_name_none_of_this_one(web: Site, secret: Path) -> None:
    web.put("in/", page("a.csv"))
    web.put("in/a.csv", f"file\nfile://{secret}\n".encode())
    with pytest.raises(RefusedTargetError, match="is a path of this machine"):
        taken(WebSource("files", "files", f"{web.url}/in", column_types={"file": "file"}))
    Dataset.from_dict({"file": [str(secret)]}).save("files", column_types={"file": "file"})
    with pytest.raises(RefusedTargetError, match="is a path of this machine"):
        taken(WebSource("files", "files", f"{web.url}/in"))
    assert Dataset("files").count() == 1


def test_a_table_of_another_machine_cannot_say_that_a_column_holds_files(web: Site, secret: Path) -> None:
    record = {"url": f"file://{secret}", "sha256": None, "size": None, "content_type": None, "filename": None}
    kind = Dataset.from_dict({"f": [str(secret)]}).save("kind", column_types={"f": "file"}).schema.field("f")
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"f": pa.array([record], kind.type)}, schema=pa.schema([kind])), sink)
    rows = Dataset.from_file(web.put("rows.parquet", sink.getvalue().to_pybytes()))
    assert next(rows.rows())["f"] == record
    with pytest.raises(RefusedTargetError, match="is a path of this machine"):
        rows.save("bad", column_types={"f": "file"})


def test_chains_are_not_followed_by_anybody_else(secret: Path) -> None:
    for url in (f"simplecache::file://{secret}", f"simplecache://::file://{secret}", f"blockcache::{secret}::file://x"):
        with pytest.raises((InvalidArgumentError, FileError)):
            Dataset.from_file(url, format="csv")
    named = secret.parent / "a::b.csv"
    named.write_bytes(SECRET)
    assert Dataset.from_file(str(named)).count() == 1
    assert parse_chain("zip://a.csv::http://[::1]:80/a::b.zip").base == "http://[::1]:80/a::b.zip"


def test_answers_that_are_errors_stay_errors(web: Site) -> None:
    web.always["/in/"] = answers(403)
    with pytest.raises(FileError, match="the server answered 403"):
        taken(WebSource("numbers", "numbers", f"{web.url}/in"))
