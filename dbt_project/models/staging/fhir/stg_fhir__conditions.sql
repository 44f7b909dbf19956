with

source as (

    select * from {{ source('raw', 'fhir_conditions') }}
    where {{ in_build() }}

),

final as (

    select
        source_id,
        batch_id,
        inbox_sequence,
        locator,
        known_at,
        record_key,
        person_key,
        encounter_key,
        codings,
        onset_at,
        coalesce(onset_at, recorded_at, known_at) as event_at,
        coalesce(verification_status in ('entered-in-error', 'refuted'), false) as is_retracted,
        coalesce(clinical_status in ('active', 'recurrence', 'relapse'), true) and abated_at is null as is_active,
    from source

)

select * from final
