-- A deleted record lands once more as its newest version, retracted; so whoever reads versions needs no other rule.
-- Input: `deletions` (n, payload_id, source_id, locator, type, record_key, deleted_at, received_at).
insert into new_$table by name
with versions as (
    select * exclude (batch_id, inbox_sequence, landed_at) from clinical.raw.$table
    where record_key in (select record_key from deletions)

    union all by name

    select * exclude (n, reason_code, reason_path) from new_$table
    where reason_code is null and record_key in (select record_key from deletions)
),

newest as (
    select * from versions
    qualify row_number() over (partition by record_key order by known_at desc) = 1
)

select
    deletions.n,
    newest.* replace (
        deletions.payload_id as payload_id,
        deletions.source_id as source_id,
        deletions.locator as locator,
        coalesce(deletions.deleted_at, deletions.received_at) as known_at,
        if(deletions.deleted_at is not null, 'version', 'receipt') as known_at_basis,
        content_of('deleted', row(newest.record_key, deletions.deleted_at)) as content_hash,
        list_distinct(newest.flags || ['deleted']) as flags,
        $retracted
    )
from deletions
join newest on deletions.record_key = newest.record_key;
