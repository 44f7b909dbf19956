with

changed as (

    select * from {{ ref('int_patients__changed') }}

),

told as (

    select *, false as is_discharge_cancelled from {{ ref('stg_fhir__encounters') }}
    union all by name
    select * from {{ ref('stg_hl7v2__encounters') }}

),

visits as (

    select
        told.*,
        changed.resolved_patient_key as patient_key,
        {{ told_order('told') }} as told_order,
        max({{ told_order('told') }}) filter (where told.is_discharge_cancelled) over (partition by told.encounter_key)
            as discharge_cancelled_order,
    from told
    inner join changed on told.person_key = changed.patient_key

),

-- The newest word counts; what it leaves out is kept from before, an end only if no cancelled discharge (A13) came since.
final as (

    select
        encounter_key,
        arg_max(patient_key, told_order) as patient_key,
        arg_max(source_id, told_order) as source_id,
        arg_max(encounter_class, row(encounter_class <> 'other', told_order)) as encounter_class,
        arg_max(status, told_order) as status,
        arg_max(started_at, told_order) as started_at,
        arg_max(ended_at, told_order) filter (
            where discharge_cancelled_order is null or told_order > discharge_cancelled_order
        ) as ended_at,
        -- The visit itself was known from the first word on: a later one (a discharge, the same again) must not take it
        -- out of what was known of the patient before.
        min(known_at) as known_at,
    from visits
    group by encounter_key

)

select * from final
