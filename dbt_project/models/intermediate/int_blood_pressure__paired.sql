with

observations as (

    select
        *,
        try_cast(regexp_extract(value_text, '^\s*([\d.]+)\s*/', 1) as double) as text_systolic,
        try_cast(regexp_extract(value_text, '/\s*([\d.]+)', 1) as double) as text_diastolic,
        coalesce(text_systolic, text_diastolic) is not null as is_text_pair,
    from {{ ref('int_observations__coded') }}
    where concept in ('blood_pressure', 'systolic', 'diastolic')

),

part_codes as (

    select
        concept,
        list(code_system || '|' || code) as codes,
    from {{ ref('concept_codes') }}
    where domain = 'observation' and concept in ('systolic', 'diastolic')
    group by concept

),

panel_components as (

    select
        * exclude (components),
        unnest(components) as component,
    from observations
    where concept = 'blood_pressure' and len(components) > 0

),

panel_parts as (

    select
        panel_components.* exclude (concept, component, value_number, value_unit),
        part_codes.concept,
        coalesce(component.value_number, try_cast(component.value_text as double)) as value_number,
        component.value_unit,
    from panel_components
    inner join part_codes
        on list_has_any(
            list_transform(component.codings, lambda coding: coding.system || '|' || coding.code), part_codes.codes
        )

),

-- One record holds both numbers: a panel with components in either order, or '140/90'.
whole_readings as (

    select
        record_key,
        source_id,
        patient_key,
        encounter_key,
        event_at,
        known_at,
        superseded_at,
        is_preliminary,
        max(value_number) filter (where concept = 'systolic') as systolic,
        max(value_number) filter (where concept = 'diastolic') as diastolic,
        any_value(value_unit) as original_unit,
    from panel_parts
    group by all
    union all
    select
        record_key,
        source_id,
        patient_key,
        encounter_key,
        event_at,
        known_at,
        superseded_at,
        is_preliminary,
        text_systolic,
        text_diastolic,
        value_unit,
    from observations
    where is_text_pair and coalesce(len(components), 0) = 0

),

-- Each number is a record of its own, an OBX or a FHIR Observation outside any panel; the nth systolic of an order and
-- time goes with the nth diastolic.
halves as (

    select
        *,
        patient_key || '|' || group_key || '|' || event_at::varchar as pair_key,
        dense_rank() over (
            partition by patient_key, group_key, event_at, concept
            order by try_cast(regexp_extract(locator, 'OBX\[(\d+)\]', 1) as integer), record_key
        ) as nth,
    from observations
    where concept in ('systolic', 'diastolic') and not is_text_pair

),

systolic_halves as (

    select * from halves where concept = 'systolic'

),

diastolic_halves as (

    select * from halves where concept = 'diastolic'

),

-- A version of the pair lasts while the versions of both halves do.
paired_readings as (

    select
        'pair|' || coalesce(systolic.pair_key, diastolic.pair_key) || '|' || coalesce(systolic.nth, diastolic.nth)
            as record_key,
        coalesce(systolic.source_id, diastolic.source_id) as source_id,
        coalesce(systolic.patient_key, diastolic.patient_key) as patient_key,
        coalesce(systolic.encounter_key, diastolic.encounter_key) as encounter_key,
        coalesce(systolic.event_at, diastolic.event_at) as event_at,
        greatest(systolic.known_at, diastolic.known_at) as known_at,
        least(systolic.superseded_at, diastolic.superseded_at) as superseded_at,
        coalesce(systolic.is_preliminary, false) or coalesce(diastolic.is_preliminary, false) as is_preliminary,
        systolic.value_number as systolic,
        diastolic.value_number as diastolic,
        coalesce(systolic.value_unit, diastolic.value_unit) as original_unit,
    from systolic_halves as systolic
    full join diastolic_halves as diastolic
        on systolic.pair_key = diastolic.pair_key
        and systolic.nth = diastolic.nth
        and systolic.known_at < coalesce(diastolic.superseded_at, 'infinity'::timestamptz)
        and diastolic.known_at < coalesce(systolic.superseded_at, 'infinity'::timestamptz)

),

readings as (

    select * from whole_readings
    union all
    select * from paired_readings

),

final as (

    select
        md5(readings.record_key || '|' || epoch_us(readings.known_at)) as version_key,
        readings.* exclude (systolic, diastolic),
        {{ converted('conversion', 'readings.systolic', 1) }} as systolic_mmhg,
        {{ converted('conversion', 'readings.diastolic', 1) }} as diastolic_mmhg,
        conversion.unit is not null as is_unit_known,
    from readings
    left join {{ ref('unit_conversions') }} as conversion
        on {{ conversion_for('conversion', "'blood_pressure'", 'readings.original_unit', 'readings.systolic') }}
    where readings.systolic is not null or readings.diastolic is not null

)

select * from final
