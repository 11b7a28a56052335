"""Small datasets for examples and tests, made here: no network, and the same values every time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lakefeed.registry.anndata_entry import import_anndata

if TYPE_CHECKING:
    import pandas as pd

ROWS_OF_SPECIES = 25
CELLS, GENES = 40, 100
_FIRST_ROWS = (
    (0.051, 0.035, 0.014, 0.002),
    (0.049, 0.030, 0.014, 0.002),
    (0.047, 0.032, 0.013, 0.002),
    (0.046, 0.031, 0.015, 0.002),
    (0.050, 0.036, 0.014, 0.002),
)
_MEANS = ((0.050, 0.034, 0.015, 0.002), (0.059, 0.028, 0.043, 0.013), (0.066, 0.030, 0.056, 0.020))
_CELL_TYPES = ("T cell", "hepatocyte", "my new cell type", "hematopoietic stem cell")


def df_iris_in_meter_batch1() -> pd.DataFrame:
    """Returns measures of flowers in meters, a row for each flower, with a code of its organism.

    Example:
        >>> df_iris_in_meter_batch1().shape
        (75, 5)
    """
    import pandas as pd

    noise = np.random.default_rng(1936).normal(0, 0.002, (len(_MEANS), ROWS_OF_SPECIES, 4))
    values = (np.array(_MEANS)[:, None, :] + noise).clip(0.001).round(3).reshape(-1, 4)
    values[: len(_FIRST_ROWS)] = _FIRST_ROWS
    frame = pd.DataFrame(values, columns=["sepal_length", "sepal_width", "petal_length", "petal_width"])
    frame["iris_organism_code"] = np.repeat(np.arange(len(_MEANS)), ROWS_OF_SPECIES)
    return frame


def anndata_with_obs() -> Any:
    """Returns an AnnData of 40 cells and 100 genes, with cell types, tissues and diseases in ``obs``.

    Raises:
        MissingDependencyError: anndata is not installed.
    """
    import pandas as pd

    anndata = import_anndata("anndata_with_obs")
    counts = np.random.default_rng(2013).poisson(1.0, (CELLS, GENES)).astype(np.float32)
    numbers = np.arange(CELLS)
    obs = pd.DataFrame(
        {
            "cell_type": [_CELL_TYPES[number % 4] for number in numbers],
            "cell_type_id": [f"CL:{number % 4 + 1:07d}" for number in numbers],
            "tissue": ["kidney" if number % 2 else "liver" for number in numbers],
            "disease": [("chronic kidney disease", "Alzheimer disease")[number % 8 // 4] for number in numbers],
        },
        index=[f"obs{number}" for number in numbers],
    )
    genes = [f"ENSG{number:011d}" for number in (3, 5, *range(100, 98 + GENES))]
    return anndata.AnnData(X=counts, obs=obs.astype("category"), var=pd.DataFrame(index=genes))
