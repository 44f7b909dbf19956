create or replace temp table new_fhir_medications as
with timed as (
    select
        *,
        event_text(r) as at_text,
        case
            when r."medicationReference".reference like '#%'
                then from_json(r.contained, '[{"id":"VARCHAR","code":{"coding":[{"system":"VARCHAR","code":"VARCHAR"}]}}]')
        end as inside
    from usable
    where resource_type in ('MedicationRequest', 'MedicationStatement')
),

drugs as (
    select
        timed.* exclude (inside),
        coalesce(
            r."medicationCodeableConcept".coding,
            list_filter(inside, lambda m: '#' || m.id = r."medicationReference".reference)[1].code.coding
        ) as codings,
        coalesce(referenced_id(r."medicationReference".reference, 'Medication'), within_bundle.id) as medication_id
    from timed
    left join within_bundle
        on timed.payload_id = within_bundle.payload_id
        and r."medicationReference".reference = within_bundle.full_url
)

select
    payload_id, source_id, locator, known_at, known_at_basis, record_key,
    content_of(row(known_text, person_key, encounter_key, r.status, r.intent, codings, medication_id, at_text)) as content_hash,
    person_key,
    source_flags || time_flags(at_text) as flags,
    resource_type, encounter_key, r.status as status, r.intent as intent, codings,
    pseudonym('medication', source_id || ':fhir', medication_id) as medication_key,
    fhir_at(at_text, time_zone) as event_at,
    fhir_offset_minutes(at_text) as event_offset_minutes,
    if(at_text is null, null, fhir_precision(at_text)) as event_precision,
    fhir_at(r."effectivePeriod"."end", time_zone) as ended_at
from drugs;

create or replace temp table new_fhir_medication_codes as
select
    payload_id, source_id, locator, known_at, known_at_basis, record_key,
    content_of(row(known_text, r.code)) as content_hash,
    cast(null as varchar) as person_key, source_flags as flags,
    pseudonym('medication', source_id || ':fhir', r.id) as medication_key,
    r.code.coding as codings
from usable
where resource_type = 'Medication';
