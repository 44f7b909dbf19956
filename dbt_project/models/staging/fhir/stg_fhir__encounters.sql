with

source as (

    select * from {{ source('raw', 'fhir_encounters') }}
    where {{ in_build() }} and encounter_key is not null

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
        {{ encounter_class('class_code') }} as encounter_class,
        status,
        started_at,
        ended_at,
    from source

)

select * from final
