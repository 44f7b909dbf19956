with

source as (

    select * from {{ source('raw', 'fhir_observations') }}
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
        person_key || '|' || coalesce(event_at, known_at)::varchar as group_key,
        coalesce(event_at, known_at) as event_at,
        coalesce(status in ('entered-in-error', 'cancelled'), false) as is_retracted,
        coalesce(status in ('registered', 'preliminary'), false) as is_preliminary,
        codings,
        value_number,
        value_unit,
        value_text,
        value_codings,
        components,
    from source

)

select * from final
