insert into new_fhir_conditions by name
with shaped as (
    select
        *,
        coalesce("onsetDateTime", "onsetPeriod".start) as onset_text,
        codings_of(code.coding) as codings,
        status_of("clinicalStatus".coding[1].code) as clinical_status,
        status_of("verificationStatus".coding[1].code) as verification_status
    from about_patients
    where "resourceType" = 'Condition'
),

timed as (
    select
        *,
        fhir_at(onset_text, time_zone) as onset_at,
        fhir_at("abatementDateTime", time_zone) as abated_at,
        fhir_at("recordedDate", time_zone) as recorded_at,
        content_of('Condition', row(
            version_at, recorded_at_or_null, person_key, visit_key, clinical_status, verification_status, codings,
            onset_text, "abatementDateTime"
        )) as content_hash
    from shaped
)

select
    n, payload_id, source_id, locator,
    known_at_of(version_at, recorded_at_or_null, onset_at, fallback, received_at) as known_at,
    known_basis_of(version_at, recorded_at_or_null, onset_at, fallback) as known_at_basis,
    record_key_of(namespace, 'Condition', id, content_hash) as record_key,
    content_hash, person_key,
    source_flags || time_flags(onset_text) || future_flags(onset_at, latest_plausible_at, is_shifted)
        || if(coalesce(onset_text, "recordedDate") is null, ['no_event_time'], [])
        || if(is_visit_lost, ['encounter_unresolved'], []) as flags,
    visit_key as encounter_key, clinical_status, verification_status, codings,
    onset_at,
    fhir_offset_minutes(onset_text) as onset_offset_minutes,
    fhir_precision(onset_text) as onset_precision,
    abated_at, recorded_at,
    coalesce(
        subject_verdict(subject_reference, subject_type, person_key),
        case
            when onset_text is not null and onset_at is null then 'bad_date'
            when "abatementDateTime" is not null and abated_at is null then 'bad_date'
            when "recordedDate" is not null and recorded_at is null then 'bad_date'
            when coalesce(len(codings), 0) = 0 then 'no_code'
        end
    ) as reason_code,
    case
        when person_key is null then 'subject'
        when onset_text is not null and onset_at is null then 'onset[x]'
        when "abatementDateTime" is not null and abated_at is null then 'abatementDateTime'
        when "recordedDate" is not null and recorded_at is null then 'recordedDate'
        else 'code.coding'
    end as reason_path
from timed;
