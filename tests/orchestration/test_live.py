"""A real Dagster, started from workspace.yaml and looked at through GraphQL and in a browser."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dataset_assets.defs.digits import deliveries
from dataset_assets.demo.landing import land
from dataset_assets.demo.server import Server, running
from dataset_assets.run_tags import WORK_TAG
from lakefeed import Dataset
from lakefeed.catalog import Lake
from tests.orchestration.browser import Page, browsing, red, why_none

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]
ASSETS = (["datasets", "digits"], ["routines", "digits_features"], ["datasets", "digits_features"])
VERSIONS, ROWS = 11, 20
WRITE = """
import sys
from pathlib import Path
from dataset_assets.defs.digits import read_delivery
from lakefeed import Dataset
begin, end = map(int, sys.argv[2:])
rows = read_delivery(Path(sys.argv[1])).slice(begin, end)
rows.append_to("digits") if Dataset.exists("digits") else rows.save("digits", column_types={"image": "image"})
"""
NEEDS_A_BROWSER = pytest.mark.skipif(bool(why_none()), reason=why_none())


def write_from_another_process(labels: Path, begin: int, end: int) -> None:
    subprocess.run([sys.executable, "-c", WRITE, str(labels), str(begin), str(end)], cwd=ROOT, check=True)


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.5)


def materialized(server: Server) -> list[int]:
    shown = server.partitions(*ASSETS)
    return [shown["/".join(key)]["numMaterialized"] for key in ASSETS]


def ids(name: str) -> list[int]:
    return Dataset(name).to_arrow()["id"].to_pylist()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("live")


@pytest.fixture(scope="module")
def labels(place: Path) -> Path:
    land(place, 1)
    return place / "delivery-1" / "labels.csv"


@pytest.fixture(scope="module")
def digits(place: Path, labels: Path) -> Iterator[Server]:
    """Another process wrote eleven versions of the digits, and Dagster shows and has worked on all of them."""
    with pytest.MonkeyPatch.context() as patch, running(place / "home") as server:
        patch.setenv("LAKEFEED_HOME", str(place / "home"))
        server.launch(deliveries.job_name)  # finds nothing, and is shown as having looked
        write_from_another_process(labels, 0, ROWS)
        wait_for(lambda: materialized(server) == [1, 1, 1])
        rows = Dataset("digits", version=1)  # in the lake already: no file is read again
        for _ in range(VERSIONS - 1):
            first = Dataset("digits").count()
            rows.with_column("id", f"id + {first}").select(["id", "label", "image"]).append_to("digits")
        wait_for(lambda: materialized(server) == [VERSIONS] * 3)
        yield server


@pytest.fixture
def server(digits: Server, place: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("LAKEFEED_HOME", str(place / "home"))
    return digits


@pytest.fixture
def page(server: Server, tmp_path: Path) -> Iterator[Page]:
    with browsing(server.url, tmp_path) as shown:
        yield shown


def test_what_another_process_writes_is_seen_profiled_and_worked_on(server: Server) -> None:
    assert ids("digits_features") == ids("digits") == list(range(ROWS * VERSIONS))


def test_neither_a_backfill_nor_a_run_done_again_repeats_a_row(server: Server) -> None:
    before = Dataset("digits_features").version
    again = [server.backfill(asset, ["v1", "v2"]) for asset in ASSETS[:2]]
    run = server.execute_again(server.runs(WORK_TAG, "routines/digits_features")[0])
    wait_for(lambda: all(server.backfill_status(each).startswith("COMPLETED") for each in again))
    assert {server.backfill_status(each) for each in again} == {"COMPLETED_SUCCESS"}
    wait_for(lambda: server.status(run) in ("SUCCESS", "FAILURE"))
    assert server.status(run) == "SUCCESS"
    assert Dataset("digits_features").version == before


def test_datasets_that_nobody_declared_come_and_go(server: Server) -> None:
    """Within a minute of the first commit, without a change of code, and not at all after they are gone."""

    def shown(name: str) -> bool:
        return f"datasets/{name}" in server.partitions(["datasets", name])

    assert not shown("stray")
    Dataset.from_dict({"x": [1, 2]}).save("stray")
    wait_for(lambda: shown("stray"), 60)
    wait_for(lambda: server.partitions(["datasets", "stray"])["datasets/stray"]["numMaterialized"] == 1)
    Lake.current().catalog.rename_table(("default", "stray"), ("default", "moved"))
    wait_for(lambda: shown("moved") and not shown("stray"))
    wait_for(lambda: server.partitions(["datasets", "moved"])["datasets/moved"]["numMaterialized"] == 1)
    Dataset("moved").delete()
    wait_for(lambda: not shown("moved"))


# ------------------------------------------------------------------ what a person sees


@NEEDS_A_BROWSER
def test_the_lineage_shows_dataset_routine_dataset(page: Page) -> None:
    page.open("assets/datasets/digits", view="lineage", lineageScope="neighbors", lineageDepth="3")
    nodes = "//*[local-name()='foreignObject'][.//*[starts-with(@class, 'AssetNode_assetNodeContainer')]]"
    boxes = page.wait_for(lambda: len(found := page.all(nodes)) == 4 and "oading" not in page.text() and found)
    from_left = sorted(boxes, key=lambda box: box.rect["x"])
    lines = [box.text.splitlines() for box in from_left]
    assert [line[0] for line in lines] == ["digits", "digits", "digits_features", "digits_features"]
    roles = [{text.lower() for text in line[-2:]} for line in lines]
    dataset = {"dataset", "iceberg"}
    assert roles == [{"ingestion", "file"}, dataset, {"routine", "python"}, dataset]
    assert len(page.all("//*[local-name()='path'][starts-with(@d, 'M') and contains(@marker-end, 'url')]")) >= 3
    page.picture("lineage", *from_left)


@NEEDS_A_BROWSER
def test_the_partitions_are_the_versions_in_their_order(page: Page) -> None:
    page.open("assets/datasets/digits", view="partitions", partition="v2")
    page.one("//*[text()='rows_added']")
    listed = [each.text for each in page.all("//span[starts-with(text(), 'v')]")]
    versions = [text for text in listed if text.removeprefix("v").isdigit()]
    assert versions[:VERSIONS] == [f"v{number}" for number in range(1, VERSIONS + 1)]
    page.picture("partitions")


@NEEDS_A_BROWSER
@pytest.mark.parametrize("name", ["preview", "thumbnails_image"])
def test_a_version_shows_a_preview_and_thumbnails(page: Page, name: str) -> None:
    page.open("assets/datasets/digits", view="partitions", partition="v2")
    shown = page.one(f"//tr[.//*[text()='{name}']]//*[text()='[Show Markdown]']")
    shown.click()
    dialog = "//*[contains(@class, 'dialog')]"
    images = page.wait_for(lambda: page.all(f"{dialog}//img[starts-with(@src, 'data:image/png')]"))
    assert len(images) >= 8
    assert all(page.chrome.execute_script("return arguments[0].naturalWidth", image) == 48 for image in images)
    if name == "preview":
        assert page.one(f"{dialog}//table").text.split()[:5] == ["id", "label", "image", "20", "0"]
    page.picture(name.removesuffix("_image"))


@NEEDS_A_BROWSER
def test_a_failed_check_is_red(page: Page, server: Server, labels: Path) -> None:
    write_from_another_process(labels, 0, 3)  # their ids are there already
    key = "/".join(ASSETS[0])
    version = Dataset("digits").version
    wait_for(lambda: server.partitions(ASSETS[0])[key]["numMaterialized"] == version)
    page.open("assets/datasets/digits", view="checks", checkDetail="unique")
    failed = page.one("//*[text()='Failed'][ancestor::*[.//*[@title='unique']]]/../..//*[@role='img']")
    assert red(failed)
    assert [red(icon) for icon in page.all("//*[text()='Succeeded']/../..//*[@role='img']")] == [False] * 4
    assert f"v{version}: keys that are not unique: [0] 2 times" in page.wait_for(page.text)
    page.picture("checks")
