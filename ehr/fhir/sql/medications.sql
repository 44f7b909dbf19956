insert into new_fhir_medications by name
with inside as (
    select
        *,
        case
            when "medicationReference".reference like '#%' then list_filter(
                from_json(contained, '[{"id":"VARCHAR","code":{"coding":[{"system":"VARCHAR","code":"VARCHAR"}]}}]'),
                lambda c: '#' || c.id = about_patients."medicationReference".reference
            )[1].code.coding
        end as contained_coding
    from about_patients
    where "resourceType" in ('MedicationRequest', 'MedicationStatement')
),

shaped as (
    select
        inside.*,
        coalesce(
            event_text_of("effectiveDateTime", "effectivePeriod", "effectiveInstant"), "authoredOn", "dateAsserted"
        ) as event_text,
        codings_of(coalesce("medicationCodeableConcept".coding, contained_coding)) as codings,
        status_of(status) as known_status,
        status_of(intent) as known_intent,
        if(drug.target_type = 'Medication', drug.target_key, null) as medication_key
    from inside
    left join targets as drug
        on inside.file_no = drug.file_no and inside."medicationReference".reference = drug.reference
),

timed as (
    select
        *,
        fhir_at(event_text, time_zone) as event_at,
        content_of("resourceType", row(
            version_at, recorded_at_or_null, person_key, visit_key, known_status, known_intent, codings, medication_key,
            event_text, "effectivePeriod"."end"
        )) as content_hash
    from shaped
)

select
    n, payload_id, source_id, locator,
    known_at_of(version_at, recorded_at_or_null, event_at, fallback, received_at) as known_at,
    known_basis_of(version_at, recorded_at_or_null, event_at, fallback) as known_at_basis,
    record_key_of(namespace, "resourceType", id, content_hash) as record_key,
    content_hash, person_key,
    source_flags || time_flags(event_text) || future_flags(event_at, latest_plausible_at, is_shifted)
        || if(event_text is null, ['no_event_time'], [])
        || if(is_visit_lost, ['encounter_unresolved'], [])
        || if(status is not null and known_status is null, ['status_dropped'], []) as flags,
    "resourceType" as resource_type, visit_key as encounter_key, known_status as status, known_intent as intent,
    codings, medication_key, event_at,
    fhir_offset_minutes(event_text) as event_offset_minutes,
    fhir_precision(event_text) as event_precision,
    fhir_at("effectivePeriod"."end", time_zone) as ended_at,
    coalesce(
        subject_verdict(subject_reference, subject_type, person_key),
        case
            when event_text is not null and event_at is null then 'bad_date'
            when medication_key is null and "medicationReference".reference is not null
                and coalesce(len(codings), 0) = 0 then 'unresolvable_reference'
            when medication_key is null and coalesce(len(codings), 0) = 0 then 'no_code'
        end
    ) as reason_code,
    case
        when person_key is null then 'subject'
        when event_text is not null and event_at is null then 'effective[x], authoredOn or dateAsserted'
        else 'medication[x]'
    end as reason_path
from timed;

-- Drugs on their own, which orders refer to. They are about nobody.
insert into new_fhir_medication_codes by name
with shaped as (
    select *, codings_of(code.coding) as codings
    from about_patients
    where "resourceType" = 'Medication'
),

hashed as (
    select *, content_of('Medication', row(version_at, codings)) as content_hash
    from shaped
)

select
    n, payload_id, source_id, locator,
    coalesce(version_at, received_at) as known_at,
    if(version_at is not null, 'version', 'receipt') as known_at_basis,
    record_key_of(namespace, 'Medication', coalesce(id, full_url), content_hash) as record_key,
    content_hash, cast(null as varchar) as person_key, source_flags as flags,
    pseudonym('medication', namespace, coalesce(id, full_url)) as medication_key,
    codings,
    case
        when coalesce(len(codings), 0) = 0 then 'no_code'
        when coalesce(id, full_url) is null then 'no_id'
    end as reason_code,
    if(coalesce(len(codings), 0) = 0, 'code.coding', 'id') as reason_path
from hashed;
