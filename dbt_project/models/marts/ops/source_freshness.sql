with

landings as (

    select * from {{ source('raw', 'landings') }} where {{ in_build() }}

),

final as (

    select
        source_id,
        format,
        count(*) as payloads,
        count(distinct batch_id) as batches,
        sum(size_bytes)::bigint as size_bytes,
        min(as_of) as first_landed_date,
        max(as_of) as last_landed_date,
        {{ as_of() }} - max(as_of) as days_since_last,
        -- Every night is expected to bring something; two silent nights are worth a look.
        days_since_last > 2 as is_stale,
    from landings
    group by source_id, format

)

select * from final
