"""The map: every asset in flow order. DAGs chain by these, never by clock offsets.

    ingest_ehr_extracts, live landings ─► raw_landed ─► build_warehouse ─► marts_published ─► materialize_features
      ─► features_materialized ─► score_patients ─► patients_scored ─► monitor_drift
      ─► drift_detected ─► retrain_model ─► champion_changed ─► score_patients
"""

from airflow.sdk import Asset

from core.settings import load_settings
from landing_trigger import landing_watchers

RAW_LANDED = Asset(
    "raw_landed", uri="cuff://lake/clinical/raw", group="cuff", watchers=landing_watchers(load_settings()))
MARTS_PUBLISHED = Asset("marts_published", uri="cuff://lake/published", group="cuff")
FEATURES_MATERIALIZED = Asset("features_materialized", uri="cuff://features/blood_pressure_risk", group="cuff")
PATIENTS_SCORED = Asset("patients_scored", uri="cuff://lake/clinical/scores", group="cuff")
DRIFT_DETECTED = Asset("drift_detected", uri="cuff://monitoring/drift", group="cuff")
CHAMPION_CHANGED = Asset("champion_changed", uri="cuff://models/hypertension-risk/champion", group="cuff")
