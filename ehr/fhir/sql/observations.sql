create or replace temp table new_fhir_observations as
with timed as (
    select
        *,
        event_text(r) as at_text,
        list_transform(r.component, lambda c: {
            'codings': c.code.coding,
            'value_number': c."valueQuantity"."value",
            'value_unit': unit_of(c."valueQuantity"),
            'value_text': safe_text(c."valueString")
        }) as components
    from usable
    where resource_type = 'Observation'
)

select
    payload_id, source_id, locator, known_at, known_at_basis, record_key,
    content_of(row(known_text, person_key, encounter_key, r.status, at_text, r.code, r."valueQuantity", r."valueInteger",
        r."valueString", r."valueCodeableConcept", r.component)) as content_hash,
    person_key,
    source_flags || time_flags(at_text)
        || if(r."valueString" is not null and safe_text(r."valueString") is null, ['value_text_dropped'], [])
        || if(r."valueQuantity"."value" is not null and unit_of(r."valueQuantity") is null, ['no_unit'], [])
        || if(fhir_at(at_text, time_zone) > received_at + interval 1 day and not is_shifted, ['future_date'], []) as flags,
    encounter_key, r.status as status,
    fhir_at(at_text, time_zone) as event_at,
    fhir_offset_minutes(at_text) as event_offset_minutes,
    fhir_precision(at_text) as event_precision,
    r.code.coding as codings,
    coalesce(r."valueQuantity"."value", r."valueInteger") as value_number,
    unit_of(r."valueQuantity") as value_unit,
    safe_text(r."valueString") as value_text,
    r."valueCodeableConcept".coding as value_codings,
    components
from timed;
