with

source as (

    select * from {{ source('raw', 'fhir_patients') }}
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
        {{ sex('gender') }} as sex,
        birth_date,
        birth_date_precision,
        is_deceased,
        deceased_at,
    from source

)

select * from final
