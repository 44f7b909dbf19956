{{ config(materialized='table') }}

with

changed as (

    select * from {{ ref('int_patients__changed') }}

),

moved_visits as (

    select * from {{ ref('int_encounters__moved') }}

),

told as (

    select *, 'fhir' as source_format from {{ ref('stg_fhir__observations') }}
    union all by name
    select *, 'hl7v2' as source_format from {{ ref('stg_hl7v2__observations') }}

),

versions as (

    select
        told.*,
        coalesce(moved_visits.patient_key, changed.resolved_patient_key) as patient_key,
        {{ superseded_at() }} as superseded_at,
    from told
    inner join changed on told.person_key = changed.patient_key
    left join moved_visits on told.encounter_key = moved_visits.encounter_key and told.source_format = 'hl7v2'

),

codes as (

    {{ mapped_codings('versions', 'observation') }}

),

final as (

    select
        versions.source_id,
        versions.source_format,
        versions.record_key,
        versions.group_key,
        versions.patient_key,
        versions.encounter_key,
        versions.locator,
        versions.event_at,
        versions.known_at,
        versions.superseded_at,
        versions.is_preliminary,
        {{ valid_concept('codes', 'versions.event_at') }} as concept,
        coalesce(versions.value_number, try_cast(versions.value_text as double)) as value_number,
        versions.value_unit,
        versions.value_text,
        versions.value_codings,
        versions.components,
    from versions
    inner join codes using (codings)
    where {{ is_told() }} and codes.concept is not null

)

select * from final
where concept is not null
