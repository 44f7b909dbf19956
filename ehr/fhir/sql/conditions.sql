create or replace temp table new_fhir_conditions as
with timed as (
    select *, coalesce(r."onsetDateTime", r."onsetPeriod".start) as onset_text
    from usable
    where resource_type = 'Condition'
)

select
    payload_id, source_id, locator, known_at, known_at_basis, record_key,
    content_of(row(known_text, person_key, encounter_key, r."clinicalStatus", r."verificationStatus", r.code, onset_text,
        r."abatementDateTime", r."recordedDate")) as content_hash,
    person_key,
    source_flags || time_flags(onset_text) as flags,
    encounter_key,
    r."clinicalStatus".coding[1].code as clinical_status,
    r."verificationStatus".coding[1].code as verification_status,
    r.code.coding as codings,
    fhir_at(onset_text, time_zone) as onset_at,
    fhir_offset_minutes(onset_text) as onset_offset_minutes,
    if(onset_text is null, null, fhir_precision(onset_text)) as onset_precision,
    fhir_at(r."abatementDateTime", time_zone) as abated_at,
    fhir_at(r."recordedDate", time_zone) as recorded_at
from timed;
