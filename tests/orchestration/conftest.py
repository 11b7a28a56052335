"""What Dagster warns of by itself; kept here, since the SDK's tests also run where there is no Dagster."""

from __future__ import annotations

import pytest

OF_DAGSTER = (
    # A run over a range of versions needs it; pinned, so it changes only when we look.
    "ignore:Parameter `backfill_policy` of function `asset` is currently in beta:dagster.BetaWarning",
    # For a resource that has no fields.
    "ignore:The `__fields__` attribute is deprecated:pydantic.warnings.PydanticDeprecatedSince20",
)


def pytest_configure(config: pytest.Config) -> None:
    for line in OF_DAGSTER:
        config.addinivalue_line("filterwarnings", line)
