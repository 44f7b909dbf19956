create or replace temp table new_fhir_encounters as
with timed as (
    select *, r.period->>'$.start' as start_text, r.period->>'$.end' as end_text
    from usable
    where resource_type = 'Encounter'
)

select
    payload_id, source_id, locator, known_at, known_at_basis, record_key,
    content_of(row(known_text, person_key, r.status, r.class, start_text, end_text)) as content_hash,
    person_key,
    source_flags || time_flags(start_text) as flags,
    encounter_key, r.status as status,
    left(coalesce(r.class->>'$.code', r.class->>'$[0].coding[0].code'), 20) as class_code,
    fhir_at(start_text, time_zone) as started_at,
    fhir_offset_minutes(start_text) as started_offset_minutes,
    fhir_precision(start_text) as started_precision,
    fhir_at(end_text, time_zone) as ended_at,
    fhir_offset_minutes(end_text) as ended_offset_minutes,
    if(end_text is null, null, fhir_precision(end_text)) as ended_precision
from timed;
