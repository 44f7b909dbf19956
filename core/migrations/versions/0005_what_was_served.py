"""The inference API's predictions as answered, and their comparison with the features recomputed offline"""

import sqlalchemy as sa
from alembic import op

from core.store import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "served_predictions",
        sa.Column("prediction_number", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("prediction_id", sa.String(), nullable=False, unique=True),
        sa.Column("served_at", UtcDateTime(), nullable=False),
        sa.Column("client", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("patient_key", sa.String(), nullable=True),
        sa.Column("feature_date", sa.Date(), nullable=True),
        sa.Column("build_id", sa.Integer(), nullable=True),
        sa.Column("clinical_snapshot", sa.Integer(), nullable=True),
        sa.Column("model_version", sa.Integer(), nullable=False),
        sa.Column("risk", sa.Float(), nullable=False),
        sa.Column("band", sa.String(), nullable=False),
        sa.Column("features_sealed", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "skew_checks",
        sa.Column("skew_check_id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("through_prediction_number", sa.Integer(), nullable=False),
        sa.Column("compared", sa.Integer(), nullable=False),
        sa.Column("mismatched", sa.Integer(), nullable=False),
        sa.Column("unreadable", sa.Integer(), nullable=False),
        sa.Column("checked_at", UtcDateTime(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("skew_checks")
    op.drop_table("served_predictions")
