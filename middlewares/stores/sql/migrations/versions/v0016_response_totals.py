"""Number and bytes of each owner's stored responses, which triggers keep: programs of an older
version write responses too, while they are replaced."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
oldest_program = "0015"

_SIZE = "length({row}input) + length({row}output) + coalesce(length({row}answer), 0)"
_NEW, _OLD, _OWN = (_SIZE.format(row=row) for row in ("new.", "old.", ""))
_SQLITE = {
    "responses_added": """AFTER INSERT ON responses BEGIN
        INSERT INTO response_totals (owner, responses, size) VALUES (new.owner, 1, {new})
        ON CONFLICT (owner) DO UPDATE
        SET responses = responses + 1, size = size + excluded.size; END""",
    "responses_changed": """AFTER UPDATE OF input, output, answer ON responses BEGIN
        UPDATE response_totals SET size = size + ({new}) - ({old})
        WHERE owner = new.owner; END""",
    "responses_removed": """AFTER DELETE ON responses BEGIN
        UPDATE response_totals SET responses = responses - 1, size = size - ({old})
        WHERE owner = old.owner; END""",
}
_ADDED = "SELECT owner, 1 AS number, {size} AS size FROM added"
_REMOVED = "SELECT owner, -1 AS number, -({size}) AS size FROM removed"
_POSTGRES = {
    "responses_added": ("INSERT", "NEW TABLE AS added", _ADDED),
    "responses_changed": (
        "UPDATE",
        "NEW TABLE AS added OLD TABLE AS removed",
        f"{_ADDED} UNION ALL {_REMOVED}",
    ),
    "responses_removed": ("DELETE", "OLD TABLE AS removed", _REMOVED),
}
_FUNCTION = """CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql
    SET search_path FROM CURRENT AS $$ BEGIN
    INSERT INTO response_totals AS total (owner, responses, size)
    SELECT owner, sum(number), sum(size) FROM ({rows}) AS rows
    GROUP BY owner HAVING sum(number) <> 0 OR sum(size) <> 0 ORDER BY owner
    ON CONFLICT (owner) DO UPDATE
    SET responses = total.responses + excluded.responses, size = total.size + excluded.size;
    RETURN NULL; END $$"""
"""Once for each statement; owners in their order, so that no two statements wait for each other."""
_FILL = """INSERT INTO response_totals (owner, responses, size)
    SELECT owner, count(*), sum({size}) FROM responses GROUP BY owner"""


def upgrade() -> None:
    op.create_table(
        "response_totals",
        sa.Column("owner", sa.String(), primary_key=True),
        sa.Column("responses", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
    )
    # In PostgreSQL the first trigger waits for writers and holds up others until the commit.
    if op.get_bind().dialect.name == "postgresql":
        for name, (event, tables, rows) in _POSTGRES.items():
            op.execute(_FUNCTION.format(name=name, rows=rows.format(size=_OWN)))
            op.execute(
                f"CREATE TRIGGER {name} AFTER {event} ON responses REFERENCING {tables} "
                f"FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
            )
    else:
        for name, body in _SQLITE.items():
            op.execute(f"CREATE TRIGGER {name} {body.format(new=_NEW, old=_OLD)}")
    op.execute(_FILL.format(size=_OWN))
