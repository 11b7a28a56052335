"""The examples of LaminDB's documentation of ``Dataset``, of which only the import is another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lakefeed.registry as ln
from lakefeed.catalog.lake import Lake
from lakefeed.errors import ClosedError, TypeMismatchError


def test_a_dataset_of_a_dataframe(lake: Lake) -> None:
    df = ln.dev.datasets.df_iris_in_meter_batch1()
    dataset = ln.Dataset(df, name="Iris flower dataset batch1")
    dataset.save()
    pd.testing.assert_frame_equal(ln.Dataset.filter(name="Iris flower dataset batch1").one().load(), df)


@pytest.mark.live
def test_a_dataset_of_files(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_dir").mkdir()
    for number in (1, 2):
        pd.DataFrame({"x": [number, 10 * number]}).to_csv(f"my_dir/{number}.csv", index=False)
    file1, file2 = ln.File("my_dir/1.csv"), ln.File("my_dir/2.csv")
    dataset = ln.Dataset([file1, file2], name="My dataset")
    dataset.save()
    assert dataset.load()["x"].tolist() == [1, 10, 2, 20]
    assert [each.uid for each in dataset.files] == [file1.uid, file2.uid]

    files = ln.File.from_dir("./my_dir")
    dataset = ln.Dataset(files, name="My dataset")
    dataset.save()
    assert dataset.load()["x"].tolist() == [1, 10, 2, 20]


@pytest.mark.live
def test_a_dataset_of_a_directory(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "my-images"
    folder.mkdir()
    for name in ("cat", "dog"):
        (folder / f"{name}.png").write_bytes(name.encode())
    df = pd.DataFrame({"path": ["dog.png", "cat.png"], "well": [2, 1]})
    dataset = ln.Dataset(f"{folder}/", name="My dataset", meta=df)
    dataset.save()
    rows = dataset.dataset.filter("well = 2").to_arrow()
    assert rows["path"].to_pylist() == ["dog.png"]
    assert sorted(each.name for each in Path(str(dataset.stage())).iterdir()) == ["cat.png", "dog.png"]


def test_versions(lake: Lake) -> None:
    df1, df2 = pd.DataFrame({"x": [1]}), pd.DataFrame({"x": [1, 2]})
    # a non-versioned dataset
    dataset = ln.Dataset(df1, description="My dataframe")
    dataset.save()
    # create new dataset from old dataset and version both
    new_dataset = ln.File(df2, is_new_version_of=dataset)
    assert new_dataset.initial_version == dataset.initial_version
    assert dataset.version == "1"
    assert new_dataset.version == "2"
    new_dataset.save()
    assert (new_dataset.version, new_dataset.initial_version) == ("2", dataset)
    assert (dataset.initial_version, dataset.name) == (dataset, "My dataframe")
    assert new_dataset.load()["x"].tolist() == [1, 2]
    assert dataset.load()["x"].tolist() == [1]


def test_delete_and_restore(lake: Lake) -> None:
    dataset = ln.Dataset(pd.DataFrame({"x": [1]}), name="deleted")
    dataset.save()
    dataset.delete()
    assert (ln.Dataset.filter(name="deleted").list(), dataset.visibility) == ([], ln.Visibility.trash)
    dataset.restore()
    assert ln.Dataset.filter(name="deleted").one() == dataset


@pytest.mark.live
def test_a_dataset_of_an_anndata(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("anndata")
    from lakefeed.registry import bionty as lb

    monkeypatch.setattr(lb.settings, "_organism", None)
    lb.settings.organism = "human"
    adata = ln.dev.datasets.anndata_with_obs()
    assert adata.var_names[:2].tolist() == ["ENSG00000000003", "ENSG00000000005"]
    dataset = ln.Dataset.from_anndata(adata, name="My dataset", field=lb.Gene.ensembl_gene_id)
    dataset.save()
    loaded = dataset.load()
    assert np.array_equal(loaded.X, adata.X)
    assert loaded.obs["cell_type"].tolist() == adata.obs["cell_type"].tolist()
    with dataset.backed() as backed:
        assert (backed.shape, backed.obs_names[0]) == ((40, 100), "obs0")
        rows = backed.X
        assert np.array_equal(rows[[3, 1, -1]], adata.X[[3, 1, -1]])
    for read in (lambda: rows[0], lambda: backed.X, lambda: backed.obs, lambda: backed.shape):
        with pytest.raises(ClosedError, match="backed"):
            read()


@pytest.mark.live
@pytest.mark.filterwarnings("ignore:The 'mode.chained_assignment' option")  # of anndata with pandas 3
def test_a_dataset_for_data_loaders(lake: Lake, tmp_path: Path) -> None:
    pytest.importorskip("anndata")
    from torch.utils.data import DataLoader

    first = ln.dev.datasets.anndata_with_obs()
    second = first[::-1, :90].copy()
    second.obs_names = [f"other{number}" for number in range(40)]
    ln.Dataset([ln.File(first), ln.File(second)], description="my dataset").save()
    ds = ln.Dataset.filter(description="my dataset").one()
    with ds.mapped(label_keys=["cell_type", "tissue"]) as mapped:
        dl = DataLoader(mapped, batch_size=16, shuffle=True)
        batches = [batch[0].shape for batch in dl]
        assert (len(mapped), batches) == (80, [(16, 90)] * 5)
        assert mapped.encoders["tissue"] == {"kidney": 0, "liver": 1}
        with ds.files[1].mapped(label_keys="tissue") as alone:
            assert (len(alone), alone[3][1]) == (40, mapped[43][2])
        assert np.array_equal(mapped[3][0], first.X[3, :90])
    cells = ds.rows(obs=["tissue"]).filter("tissue = 'kidney'")
    assert (cells.count(), ds.rows(x=None).count()) == (40, 80)
    joined = ds.load(join="inner")
    assert (joined.shape, joined.obs["file_uid"].nunique()) == ((80, 90), 2)
    assert np.array_equal(joined.X[40:], second.X)
    table = ln.Dataset(pd.DataFrame({"x": [1]}), name="table")
    table.save()
    (tmp_path / "a.csv").write_text("x\n1\n")
    text = ln.Dataset([ln.File(tmp_path / "a.csv")], name="text")
    text.save()
    assert (text.rows().to_arrow().to_pydict(), table.rows().count()) == ({"x": [1]}, 1)
    for other in (table, text):
        with pytest.raises(TypeMismatchError, match=r"mapped reads \.h5ad files"):
            other.mapped()


@pytest.mark.live
def test_a_dataset_of_a_dataframe_with_features(lake: Lake) -> None:
    df = ln.dev.datasets.df_iris_in_meter_batch1()
    dataset = ln.Dataset.from_df(df, description="Iris flower dataset batch1")
    dataset.save()
    assert dataset.name == "Iris flower dataset batch1"


@pytest.mark.live
def test_a_dataset_of_one_file(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("myfile.csv").write_text("a,b\n1,x\n")
    dataset = ln.Dataset("./myfile.csv", name="myfile")
    dataset.save()
    assert dataset.load().to_dict("list") == {"a": [1], "b": ["x"]}
    assert dataset.file is not None
    assert (dataset.file.suffix, dataset.file.load().shape) == (".csv", (1, 2))
