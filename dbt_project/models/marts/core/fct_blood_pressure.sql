-- The incremental strategy reads it: depends_on {{ ref('int_patients__changed') }}

with

readings as (

    select * from {{ ref('int_blood_pressure__paired') }}

),

limits as (

    select
        max(low) filter (where measure = 'systolic') as systolic_low,
        max(high) filter (where measure = 'systolic') as systolic_high,
        max(low) filter (where measure = 'diastolic') as diastolic_low,
        max(high) filter (where measure = 'diastolic') as diastolic_high,
    from {{ ref('plausibility_limits') }}

),

versions as (

    {{ merge_routes(
        'readings',
        columns=['systolic_mmhg', 'diastolic_mmhg', 'is_unit_known'],
        kept=['source_id', 'encounter_key', 'original_unit'],
        newest=['is_preliminary'],
    ) }}

),

judged as (

    select
        versions.*,
        case
            when not is_unit_known then 'unknown_unit'
            when systolic_mmhg is null or diastolic_mmhg is null then 'incomplete'
            when systolic_mmhg not between systolic_low and systolic_high then 'systolic_out_of_range'
            when diastolic_mmhg not between diastolic_low and diastolic_high then 'diastolic_out_of_range'
            when systolic_mmhg <= diastolic_mmhg then 'systolic_not_above_diastolic'
        end as implausible_reason,
    from versions
    cross join limits

),

final as (

    select
        version_key as blood_pressure_key,
        patient_key,
        encounter_key,
        source_id,
        event_at,
        event_at::date as event_date,
        known_at,
        superseded_at,
        superseded_at is null as is_current,
        systolic_mmhg,
        diastolic_mmhg,
        original_unit,
        is_preliminary,
        implausible_reason is null as is_plausible,
        implausible_reason,
    from judged

)

select * from final
