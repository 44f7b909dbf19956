create or replace temp table new_fhir_patients as
select
    payload_id, source_id, locator, known_at, known_at_basis, record_key,
    content_of(row(known_text, r.gender, r."birthDate", r.active, r."deceasedBoolean", r."deceasedDateTime", r.link)) as content_hash,
    person_key,
    source_flags || if(r."birthDate" is not null and try_cast(rpad(r."birthDate", 10, '-01-01') as date) is null
        and fhir_at(r."birthDate", time_zone) is null, ['bad_birth_date'], []) as flags,
    r.gender as gender,
    cast(fhir_at(r."birthDate"[:10], 'UTC') as date) as birth_date,
    if(r."birthDate" is null, null, fhir_precision(r."birthDate"[:10])) as birth_date_precision,
    coalesce(r.active, true) as is_active,
    coalesce(r."deceasedBoolean", r."deceasedDateTime" is not null) as is_deceased,
    fhir_at(r."deceasedDateTime", time_zone) as deceased_at,
    if(r."deceasedDateTime" is null, null, fhir_precision(r."deceasedDateTime")) as deceased_precision
from usable
where resource_type = 'Patient';

-- Other numbers of the same person, where the system is declared or marked as a medical record number.
create or replace temp table new_person_links as
with numbers as (
    select
        usable.*,
        unnest(from_json(r.identifier, '[{"system":"VARCHAR","value":"VARCHAR","type":{"coding":[{"code":"VARCHAR"}]}}]'))
            as number
    from usable
    where resource_type = 'Patient' and json_type(r.identifier) = 'ARRAY'
),

identifiers as (
    select
        numbers.* exclude (number),
        'identifier' as link_type,
        pseudonym('person', coalesce(authority, numbers.source_id || ':' || number.system), number.value)
            as other_person_key
    from numbers
    left join authority_of
        on numbers.source_id = authority_of.source_id and number.system = authority_of.system
    where number.value is not null and number.system is not null
        and (authority is not null or list_contains(list_transform(number.type.coding, lambda c: c.code), 'MR'))
),

linked as (
    select
        usable.*,
        unnest(from_json(r.link, '[{"other":{"reference":"VARCHAR"},"type":"VARCHAR"}]')) as link
    from usable
    where resource_type = 'Patient' and json_type(r.link) = 'ARRAY'
),

others as (
    select
        linked.* exclude (link),
        link.type as fhir_type,
        pseudonym('person', linked.source_id || ':fhir',
            coalesce(referenced_id(link.other.reference, 'Patient'), within_bundle.id)) as other_key
    from linked
    left join within_bundle
        on linked.payload_id = within_bundle.payload_id and link.other.reference = within_bundle.full_url
    where link.type in ('replaced-by', 'replaces')
),

merges as (
    select * exclude (fhir_type, other_key, person_key),
        if(fhir_type = 'replaced-by', person_key, other_key) as person_key,
        'merge' as link_type,
        if(fhir_type = 'replaced-by', other_key, person_key) as other_person_key
    from others
    where other_key is not null
),

links as (
    select payload_id, source_id, locator, known_at, known_at_basis, source_flags, person_key, link_type, other_person_key
    from identifiers
    union all
    select payload_id, source_id, locator, known_at, known_at_basis, source_flags, person_key, link_type, other_person_key
    from merges
)

select
    payload_id, source_id, locator, known_at, known_at_basis,
    md5(person_key || link_type || other_person_key) as record_key,
    md5(person_key || link_type || other_person_key) as content_hash,
    person_key, source_flags as flags, link_type, other_person_key
from links
where person_key <> other_person_key;
