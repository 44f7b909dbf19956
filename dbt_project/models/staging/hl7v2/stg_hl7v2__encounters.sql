with

source as (

    select * from {{ source('raw', 'hl7v2_encounters') }}
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
        case when message_type like 'ADT^A11%' then 'cancelled' else status end as status,
        started_at,
        ended_at,
        message_type like 'ADT^A13%' as is_discharge_cancelled,
        message_type like 'ADT^A45%' as is_moved,
    from source

)

select * from final
