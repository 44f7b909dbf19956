-- The incremental strategy reads it: depends_on {{ ref('int_patients__changed') }}

with

measurements as (

    select * from {{ ref('int_measurements__converted') }}

),

versions as (

    {{ merge_routes(
        'measurements',
        columns=['measure', 'value', 'value_code', 'unit', 'is_unit_known'],
        kept=['source_id', 'encounter_key'],
    ) }}

),

judged as (

    select
        versions.*,
        case
            when measure = 'smoking_status' and value_code is null then 'unknown_answer'
            when measure = 'smoking_status' then null
            when not is_unit_known then 'unknown_unit'
            when value not between limits.low and limits.high then 'out_of_range'
        end as implausible_reason,
    from versions
    left join {{ ref('plausibility_limits') }} as limits using (measure)

),

final as (

    select
        version_key as measurement_key,
        patient_key,
        encounter_key,
        source_id,
        measure,
        event_at,
        event_at::date as event_date,
        known_at,
        superseded_at,
        superseded_at is null as is_current,
        value,
        unit,
        value_code,
        implausible_reason is null as is_plausible,
        implausible_reason,
    from judged

)

select * from final
