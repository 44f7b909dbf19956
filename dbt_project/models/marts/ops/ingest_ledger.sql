with

landings as (

    select * from {{ source('raw', 'landings') }} where {{ in_build() }}

),

entries as (

    select
        batch_id,
        as_of,
        source_id,
        format,
        payload_id,
        unnest(counts, recursive := true),
    from landings

),

final as (

    select
        batch_id,
        any_value(as_of) as as_of,
        source_id,
        format,
        unit,
        type,
        count(distinct payload_id) as payloads,
        sum(received)::bigint as received,
        sum(accepted)::bigint as accepted,
        sum(duplicate)::bigint as duplicate,
        sum(ignored)::bigint as ignored,
        sum(quarantined)::bigint as quarantined,
    from entries
    group by batch_id, source_id, format, unit, type

)

select * from final
