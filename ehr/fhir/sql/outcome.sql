-- What one chunk of `incoming` held, by type, and what of it can be told at once. Types outside R4 may be anything, a
-- name too, and are not repeated.
create or replace temp table typed as
select
    file_no, file_no * 4294967296 + place as n, locator, last_modified, method is not distinct from 'DELETE' as is_deletion,
    regexp_extract(url, '(?:^|/)[A-Z][A-Za-z]+/([A-Za-z0-9\-.]{1,64})$', 1) as deleted_id,
    case
        when method = 'DELETE' then regexp_extract(url, '(?:^|/)([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}$', 1)
        when is_empty then 'entry without resource'
        else "resourceType"
    end as stated_type,
    case
        when stated_type = 'entry without resource' or stated_type in (select name from resource_types) then stated_type
        else 'unknown'
    end as type
from incoming;

insert into received
select file_no, type, count(*) from typed group by all;

insert into refusals
select
    file_no, n, locator, 'unknown' as type,
    case
        when is_deletion then 'unresolvable_reference'
        when stated_type is null then 'no_resource_type'
        else 'unknown_resource_type'
    end as reason_code,
    if(is_deletion, 'request.url', 'resourceType') as reason_path
from typed
where type = 'unknown';

insert into deletions
select typed.n, file.payload_id, file.source_id, typed.locator, typed.type,
    pseudonym('record', file.namespace || ':' || typed.type, typed.deleted_id) as record_key,
    fhir_at(typed.last_modified, file.time_zone) as deleted_at, file.received_at
from typed
join payload_meta as file using (file_no)
where typed.is_deletion and typed.type in (select name from handled_types);
