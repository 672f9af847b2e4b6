"""What a store of files has: its rows, its objects and its counters, compared."""

from pathlib import Path

from sqlalchemy import text

from edge.media.objects import Objects
from middlewares.stores.sql.database import Database

_ROWS = text("SELECT key FROM files UNION ALL SELECT key FROM upload_parts")
_COUNTED = text(
    "SELECT (SELECT COALESCE(SUM(size), 0) FROM files),"
    " (SELECT COALESCE(SUM(reserved), 0) FROM files)"
    " + (SELECT COALESCE(SUM(reserved), 0) FROM uploads),"
    " (SELECT COALESCE(SUM(used), 0) FROM storage),"
    " (SELECT COALESCE(SUM(reserved), 0) FROM storage)"
)


async def check_balance(database: Database, objects: Objects) -> set[str]:
    """Assert that each row has its object, each object its row, and that the counters are the sums
    of the rows. Returns the keys of the objects."""
    async with database.read() as connection:
        rows = set((await connection.execute(_ROWS)).scalars())
        size, reserved, used, held = (await connection.execute(_COUNTED)).one()
    found = {key async for key in objects.all_keys()}
    assert found == rows
    assert (int(size), int(reserved)) == (int(used), int(held))
    if objects.folder is not None:
        assert files_below(objects.folder) == found
    return found


def files_below(folder: Path) -> set[str]:
    """All files of a folder, also those that a listing of objects leaves out."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
