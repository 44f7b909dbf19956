with

changed as (

    select * from {{ ref('int_patients__changed') }}

),

told as (

    select * from {{ ref('stg_fhir__medications') }}

),

prescriptions as (

    select
        told.*,
        changed.resolved_patient_key as patient_key,
        {{ superseded_at() }} as superseded_at,
    from told
    inner join changed on told.person_key = changed.patient_key

),

codes as (

    {{ mapped_codings('prescriptions', 'drug') }}

),

coded as (

    select
        md5(prescriptions.record_key || '|' || epoch_us(prescriptions.known_at)) as version_key,
        prescriptions.* exclude (codings),
        codes.code_system,
        codes.code,
        coalesce({{ valid_concept('codes', 'prescriptions.event_at') }}, 'other') as concept,
    from prescriptions
    left join codes using (codings)
    where {{ is_told() }}

),

versions as (

    {{ merge_routes(
        'coded',
        columns=['concept', 'code_system', 'code', 'status', 'ended_at'],
        kept=['source_id', 'encounter_key'],
    ) }}

),

final as (

    select
        version_key as medication_key,
        patient_key,
        encounter_key,
        source_id,
        concept,
        code_system,
        code,
        status,
        event_at,
        event_at::date as event_date,
        ended_at,
        known_at,
        superseded_at,
        superseded_at is null as is_current,
    from versions

)

select * from final
