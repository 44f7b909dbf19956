with

changed as (

    select * from {{ ref('int_patients__changed') }}

),

moved_visits as (

    select * from {{ ref('int_encounters__moved') }}

),

told as (

    select *, 'fhir' as source_format from {{ ref('stg_fhir__conditions') }}
    union all by name
    select *, 'hl7v2' as source_format from {{ ref('stg_hl7v2__conditions') }}

),

diagnoses as (

    select
        told.*,
        coalesce(moved_visits.patient_key, changed.resolved_patient_key) as patient_key,
        {{ superseded_at() }} as superseded_at,
    from told
    inner join changed on told.person_key = changed.patient_key
    left join moved_visits on told.encounter_key = moved_visits.encounter_key and told.source_format = 'hl7v2'

),

codes as (

    {{ mapped_codings('diagnoses', 'condition') }}

),

coded as (

    select
        md5(diagnoses.record_key || '|' || epoch_us(diagnoses.known_at)) as version_key,
        diagnoses.* exclude (codings),
        codes.code_system,
        codes.code,
        coalesce({{ valid_concept('codes', 'diagnoses.event_at') }}, 'other') as concept,
    from diagnoses
    inner join codes using (codings)
    where {{ is_told() }}

),

versions as (

    {{ merge_routes(
        'coded',
        columns=['concept', 'code_system', 'code', 'is_active'],
        kept=['source_id', 'encounter_key', 'onset_at'],
        moment="date_trunc('day', event_at)",
    ) }}

),

final as (

    select
        version_key as condition_key,
        patient_key,
        encounter_key,
        source_id,
        concept,
        code_system,
        code,
        onset_at,
        event_at,
        event_at::date as event_date,
        known_at,
        superseded_at,
        superseded_at is null as is_current,
        is_active,
    from versions

)

select * from final
