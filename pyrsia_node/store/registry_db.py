"""The node-local registry's database: ``ports.registry.RegistryDb`` over SQLite.

Holds names alone: repositories, tags and their history, uploads, accounts, settings. Bytes are in
the blob store, and nothing here is believed about them: every read of a blob goes through a digest.
One gateway writes; ``pyrsia-node fsck`` and backups read. The tables are in
:mod:`pyrsia_node.store.registry_db_schema`, their meaning in docs/design/storage.md.
"""

from __future__ import annotations

from pathlib import Path

from pyrsia_node.model.errors import CorruptStateError
from pyrsia_node.store.registry_db_connections import Connections
from pyrsia_node.store.registry_db_content import ContentTables
from pyrsia_node.store.registry_db_removal import RemovalTables
from pyrsia_node.store.registry_db_settings import SettingsTables


def open_registry_db(path: Path, local_blobs: Path) -> SqliteRegistryDb:
    """Open the database of a data directory, making it where there never was one.

    Args:
        path: ``registry.sqlite``.
        local_blobs: The blob store's folder of local blobs.

    Raises:
        CorruptStateError: The file is absent although blobs were pushed: a new one would know none
            of their names, and the next garbage collection would delete them all. Or it is
            damaged, another program's, or of a newer version.
    """
    if not path.exists() and next(local_blobs.glob("??/*"), None) is not None:
        raise CorruptStateError(
            f"{path} is missing, but {local_blobs} holds what was pushed here: put the file back"
            " from a backup, or delete that folder, too"
        )
    return SqliteRegistryDb(path, create=True)


class SqliteRegistryDb(ContentTables, SettingsTables, RemovalTables):
    """Implements ``ports.registry.RegistryDb``; see there for the contract of each method."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open the database and bring it to today's version.

        Args:
            path: ``registry.sqlite`` of a data directory.
            create: Whether an absent file is made.

        Raises:
            NotFoundError: It is absent and is not to be made.
            CorruptStateError: It is damaged, another program's, or of a newer version.
        """
        self._connections = Connections(path, create=create)
        super().__init__(self._connections)

    def close(self) -> None:
        """Close the file; nobody may be using it. A second call does nothing."""
        self._connections.close()
