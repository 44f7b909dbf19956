with

source as (

    select * from {{ source('raw', 'hl7v2_observations') }}
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
        group_key,
        coalesce(event_at, known_at) as event_at,
        coalesce(status in ('D', 'W', 'X'), false) as is_retracted,
        coalesce(status in ('I', 'P', 'R', 'S'), false) as is_preliminary,
        codings,
        value_number,
        value_unit,
        value_text,
        value_codings,
    from source

)

select * from final
