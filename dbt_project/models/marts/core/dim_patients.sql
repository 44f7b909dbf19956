with

changed as (

    select * from {{ ref('int_patients__changed') }}

),

told as (

    select * from {{ ref('stg_fhir__patients') }}
    union all by name
    select * from {{ ref('stg_hl7v2__patients') }}

),

persons as (

    select
        told.*,
        changed.resolved_patient_key as patient_key,
        {{ told_order('told') }} as told_order,
        case told.birth_date_precision when 'year' then 1 when 'month' then 2 else 3 end as birth_date_rank,
    from told
    inner join changed on told.person_key = changed.patient_key

),

-- The newest word on each attribute; a full birth date is not given up for a partial one.
attributes as (

    select
        patient_key,
        arg_max(sex, told_order) filter (where sex <> 'unknown') as sex,
        arg_max(birth_date, row(birth_date_rank, told_order)) as birth_date,
        arg_max(birth_date_precision, row(birth_date_rank, told_order)) filter (
            where birth_date is not null
        ) as birth_date_precision,
        arg_max(is_deceased, told_order) as is_deceased,
        arg_max(deceased_at, told_order)::date as died_date,
    from persons
    group by patient_key

),

identities as (

    select
        resolved_patient_key as patient_key,
        count(*)::integer as person_count,
    from changed
    group by resolved_patient_key

),

events as (

    {% for fact in ['fct_blood_pressure', 'fct_measurements', 'fct_conditions', 'fct_medications'] -%}
    select patient_key, event_at from {{ ref(fact) }}
    union all
    {% endfor -%}
    select patient_key, started_at as event_at from {{ ref('fct_encounters') }}

),

seen as (

    select
        patient_key,
        min(event_at) as first_event_at,
        max(event_at) as last_event_at,
    from events
    where patient_key in (select resolved_patient_key from changed)
    group by patient_key

),

final as (

    select
        patient_key,
        coalesce(attributes.sex, 'unknown') as sex,
        attributes.birth_date,
        attributes.birth_date_precision,
        coalesce(attributes.is_deceased, false) as is_deceased,
        case when attributes.is_deceased then attributes.died_date end as died_date,
        coalesce(identities.person_count, 1) as person_count,
        seen.first_event_at,
        seen.last_event_at,
    from attributes
    full join seen using (patient_key)
    left join identities using (patient_key)

)

select * from final
