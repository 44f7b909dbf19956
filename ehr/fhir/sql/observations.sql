insert into new_fhir_observations by name
-- Materialised, because a table is read by one thread per 122,880 rows, but this by every thread.
with about as materialized (
    select
        n, payload_id, source_id, locator, namespace, time_zone, fallback, is_shifted, received_at, latest_plausible_at,
        source_flags, id, subject_reference, subject_type, person_key, visit_key, is_visit_lost, version_at,
        recorded_at_or_null, status, code, "effectiveDateTime", "effectivePeriod", "effectiveInstant", issued,
        "valueQuantity", "valueInteger", "valueString", "valueCodeableConcept", component
    from about_patients
    where "resourceType" = 'Observation'
),

shaped as (
    select
        *,
        coalesce(event_text_of("effectiveDateTime", "effectivePeriod", "effectiveInstant"), issued) as event_text,
        event_text_of("effectiveDateTime", "effectivePeriod", "effectiveInstant") is null as is_event_issued,
        codings_of(code.coding) as codings,
        status_of(status) as known_status,
        finite(coalesce("valueQuantity"."value", "valueInteger")) as value_number,
        unit_of("valueQuantity") as value_unit,
        safe_text("valueString") as value_text,
        answers_of("valueCodeableConcept".coding) as value_codings,
        list_transform(component, lambda c: {
            'codings': codings_of(c.code.coding),
            'value_number': finite(c."valueQuantity"."value"),
            'value_unit': unit_of(c."valueQuantity"),
            'value_text': safe_text(c."valueString")
        }) as components
    from about
),

timed as (
    select
        *,
        fhir_at(event_text, time_zone) as event_at,
        -- As short as it can be told: text is hashed byte by byte. No part holds a separator, save a time that is refused.
        content_of('Observation', concat(
            version_at, '|', recorded_at_or_null, '|', person_key, '|', visit_key, '|', known_status, '|', event_text, '|',
            codings_text(codings), '|', value_number, '|', value_unit, '|', value_text, '|', codings_text(value_codings), '|',
            array_to_string(list_transform(components, lambda c: concat(
                codings_text(c.codings), '|', c.value_number, '|', c.value_unit, '|', c.value_text
            )), ';')
        )) as content_hash
    from shaped
)

select
    n, payload_id, source_id, locator,
    known_at_of(version_at, recorded_at_or_null, event_at, fallback, received_at) as known_at,
    known_basis_of(version_at, recorded_at_or_null, event_at, fallback) as known_at_basis,
    record_key_of(namespace, 'Observation', id, content_hash) as record_key,
    content_hash, person_key,
    source_flags || time_flags(event_text) || future_flags(event_at, latest_plausible_at, is_shifted)
        || if(is_event_issued, ['event_from_issued'], [])
        || if(is_visit_lost, ['encounter_unresolved'], [])
        || if("valueString" is not null and value_text is null, ['value_text_dropped'], [])
        || if(len(list_filter(component, lambda c: c."valueString" is not null and safe_text(c."valueString") is null)) > 0,
            ['value_text_dropped'], [])
        || if(("valueQuantity"."value" is not null and value_unit is null)
            or len(list_filter(components, lambda c: c.value_number is not null and c.value_unit is null)) > 0,
            ['no_unit'], [])
        || if(value_unit = '{dropped}' or len(list_filter(components, lambda c: c.value_unit = '{dropped}')) > 0,
            ['unit_dropped'], [])
        || if(status is not null and known_status is null, ['status_dropped'], []) as flags,
    visit_key as encounter_key, known_status as status,
    event_at,
    fhir_offset_minutes(event_text) as event_offset_minutes,
    fhir_precision(event_text) as event_precision,
    codings, value_number, value_unit, value_text, value_codings, components,
    coalesce(
        subject_verdict(subject_reference, subject_type, person_key),
        case
            when event_text is null then 'no_time'
            when event_at is null then 'bad_date'
            when coalesce(len(codings), 0) = 0 then 'no_code'
        end
    ) as reason_code,
    case
        when person_key is null then 'subject'
        when event_at is null then 'effective[x]'
        else 'code.coding'
    end as reason_path
from timed;
