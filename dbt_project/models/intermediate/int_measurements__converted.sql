with

observations as (

    select * from {{ ref('int_observations__coded') }}
    where concept not in ('blood_pressure', 'systolic', 'diastolic')

),

answers as (

    {{ mapped_codings("observations where concept = 'smoking_status'", 'smoking', 'value_codings') }}

),

canonical_units as (

    select measure, any_value(canonical_unit) as unit
    from {{ ref('unit_conversions') }}
    group by measure

),

final as (

    select
        md5(observations.record_key || '|' || epoch_us(observations.known_at)) as version_key,
        observations.record_key,
        observations.source_id,
        observations.patient_key,
        observations.encounter_key,
        observations.concept as measure,
        observations.event_at,
        observations.known_at,
        observations.superseded_at,
        observations.is_preliminary,
        {{ converted('conversion', 'observations.value_number', 3) }} as value,
        canonical_units.unit,
        conversion.unit is not null as is_unit_known,
        answers.concept as value_code,
    from observations
    left join canonical_units on observations.concept = canonical_units.measure
    left join {{ ref('unit_conversions') }} as conversion
        on {{ conversion_for('conversion', 'observations.concept', 'observations.value_unit', 'observations.value_number') }}
    left join answers
        on observations.concept = 'smoking_status' and observations.value_codings = answers.codings
    where observations.value_number is not null or observations.concept = 'smoking_status'

)

select * from final
