insert into new_fhir_encounters by name
with shaped as (
    select
        *,
        period ->> '$.start' as start_text,
        period ->> '$.end' as end_text,
        status_of(status) as known_status,
        class_of(coalesce(class ->> '$.code', class ->> '$[0].coding[0].code')) as class_code
    from about_patients
    where "resourceType" = 'Encounter'
),

timed as (
    select
        *,
        fhir_at(start_text, time_zone) as started_at,
        fhir_at(end_text, time_zone) as ended_at,
        content_of('Encounter', row(
            version_at, recorded_at_or_null, person_key, known_status, class_code, start_text, end_text
        )) as content_hash
    from shaped
)

select
    n, payload_id, source_id, locator,
    known_at_of(version_at, recorded_at_or_null, started_at, fallback, received_at) as known_at,
    known_basis_of(version_at, recorded_at_or_null, started_at, fallback) as known_at_basis,
    record_key_of(namespace, 'Encounter', coalesce(id, full_url), content_hash) as record_key,
    content_hash, person_key,
    source_flags || time_flags(start_text) || future_flags(started_at, latest_plausible_at, is_shifted)
        || if(start_text is null, ['no_event_time'], [])
        || if(status is not null and known_status is null, ['status_dropped'], []) as flags,
    coalesce(
        pseudonym('encounter', namespace, coalesce(id, full_url)), pseudonym('encounter', namespace, content_hash)
    ) as encounter_key,
    known_status as status, class_code,
    started_at,
    fhir_offset_minutes(start_text) as started_offset_minutes,
    fhir_precision(start_text) as started_precision,
    ended_at,
    fhir_offset_minutes(end_text) as ended_offset_minutes,
    fhir_precision(end_text) as ended_precision,
    coalesce(
        subject_verdict(subject_reference, subject_type, person_key),
        case
            when (start_text is not null and started_at is null) or (end_text is not null and ended_at is null)
                then 'bad_date'
        end
    ) as reason_code,
    if(person_key is null, 'subject', 'period') as reason_path
from timed;
