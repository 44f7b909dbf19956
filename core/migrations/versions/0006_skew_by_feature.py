"""How often each feature was served unlike published; numbers of rows that a busy API does not outgrow"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# One row a request: 32 bits last four months at 200 a second. SQLite's numbers have 64 bits as they are.
_GROWING = (("audit_events", "audit_event_id"), ("served_predictions", "prediction_number"),
            ("skew_checks", "through_prediction_number"))  # fmt: skip


def upgrade() -> None:
    op.add_column("skew_checks", sa.Column("by_feature", sa.JSON(), nullable=False, server_default="{}"))
    _number_with(sa.BigInteger(), "bigint")


def downgrade() -> None:
    _number_with(sa.Integer(), "integer")
    op.drop_column("skew_checks", "by_feature")


def _number_with(kind: sa.types.TypeEngine, name: str) -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, column in _GROWING:
        op.alter_column(table, column, type_=kind)
    for table, column in _GROWING[:2]:
        op.execute(f"alter sequence {table}_{column}_seq as {name}")
