"""The change of a table's identifier in an SQL catalog, with the record of its old name, in one transaction."""

from __future__ import annotations

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import IcebergNamespaceProperties, IcebergTables
from pyiceberg.exceptions import TableAlreadyExistsError
from pyiceberg.typedef import Identifier
from sqlalchemy import delete, insert, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from lakefeed.catalog.database_connection import retry_reads
from lakefeed.catalog.sql_catalog import LakeSqlCatalog


def change_identifier(
    catalog: LakeSqlCatalog,
    source: Identifier,
    target: Identifier,
    metadata_location: str,
    record: tuple[str, str] | None,
) -> bool:
    """Renames a table, and sets a property (key and value) of its old namespace.

    Returns False, without a change, if the table has another metadata location.

    Raises:
        TableAlreadyExistsError: there is a table of the new name.
    """
    catalog.require_owner()
    sent: list[bool] = []

    @retry_reads
    def attempt() -> bool:
        with Session(catalog.engine) as session:
            if _rename_row(catalog, session, source, target, metadata_location):
                if record is not None:
                    _replace_property(catalog, session, Catalog.namespace_from(source), *record)
                sent.append(True)
                session.commit()
                return True
        # An earlier attempt may have succeeded although its answer was lost.
        return bool(sent) and catalog.metadata_location(target) == metadata_location

    return attempt()


def _rename_row(
    catalog: LakeSqlCatalog, session: Session, source: Identifier, target: Identifier, metadata_location: str
) -> bool:
    """Renames a table with this metadata location. Returns False if there is none."""
    namespace, new_namespace = (Catalog.namespace_to_string(Catalog.namespace_from(e)) for e in (source, target))
    name, new_name = Catalog.table_name_from(source), Catalog.table_name_from(target)
    statement = (
        update(IcebergTables)
        .where(
            IcebergTables.catalog_name == catalog.name,
            IcebergTables.table_namespace == namespace,
            IcebergTables.table_name == name,
            IcebergTables.metadata_location == metadata_location,
        )
        .values(table_namespace=new_namespace, table_name=new_name)
    )
    try:
        renamed = session.execute(statement)
    except IntegrityError as error:
        raise TableAlreadyExistsError(f"Table {new_namespace}.{new_name} already exists") from error
    return bool(renamed.rowcount)  # type: ignore[attr-defined]  # a DML result is a CursorResult


def _replace_property(catalog: LakeSqlCatalog, session: Session, namespace: Identifier, key: str, value: str) -> None:
    """Sets a property of a namespace."""
    name = Catalog.namespace_to_string(namespace)
    row = {"catalog_name": catalog.name, "namespace": name, "property_key": key}
    session.execute(delete(IcebergNamespaceProperties).filter_by(**row))
    session.execute(insert(IcebergNamespaceProperties).values(**row, property_value=value))
