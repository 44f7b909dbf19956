-- The day is the one on which the hospital told us. It is kept to the last 60 days, and to source days of at least 11 rows,
-- because for a backfilled source it is the day of the visit.
{% set told = {
    'encounters': ['fhir_encounters', 'hl7v2_encounters'],
    'observations': ['fhir_observations', 'hl7v2_observations'],
    'conditions': ['fhir_conditions', 'hl7v2_conditions'],
    'medications': ['fhir_medications'],
} -%}
{% set recent %}known_at >= {{ as_of() }} - 60 and known_at < {{ cutoff(as_of()) }}{% endset -%}

with

raw_checks as (

    {% for entity, tables in told.items() -%}
    {% for table in tables -%}
    select
        source_id,
        known_at::date as day,
        '{{ entity }}' as entity,
        unnest(['no_offset', 'partial_date', 'no_unit', 'without_patient']) as check_name,
        unnest([
            list_contains(coalesce(flags, []), 'no_offset'),
            list_contains(coalesce(flags, []), 'partial_date'),
            list_contains(coalesce(flags, []), 'no_unit'),
            person_key is null,
        ]) as is_failed,
    from {{ source('raw', table) }}
    where {{ in_build() }} and {{ recent }}
    union all
    {% endfor -%}
    {% endfor -%}
    select
        source_id,
        known_at::date,
        'blood_pressure',
        unnest(['implausible', 'unknown_unit']),
        unnest([not is_plausible, coalesce(implausible_reason = 'unknown_unit', false)]),
    from {{ ref('fct_blood_pressure') }}
    where {{ recent }}
    union all
    select source_id, known_at::date, 'measurements', 'implausible', not is_plausible
    from {{ ref('fct_measurements') }}
    where {{ recent }}
    union all
    select source_id, known_at::date, 'conditions', 'unmapped_code', code is null
    from {{ ref('fct_conditions') }}
    where {{ recent }}
    union all
    select source_id, known_at::date, 'medications', 'unmapped_code', code is null
    from {{ ref('fct_medications') }}
    where {{ recent }}

),

final as (

    select
        source_id,
        day,
        entity,
        check_name,
        count(*) as rows_checked,
        count(*) filter (where is_failed) as rows_failed,
        round(rows_failed / rows_checked, 4) as failed_share,
    from raw_checks
    group by source_id, day, entity, check_name
    having count(*) >= 11

)

select * from final
