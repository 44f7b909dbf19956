-- Where every reference of `incoming` leads: worked out once per distinct reference, because keys cost more than joins.
-- Input: `incoming` (file_no, place, locator, full_url, method, url, last_modified and the allow-listed fields),
-- `payload_meta` (file_no, source_id, namespace, ...), `authority_of` (source_id, system, authority).

-- Record numbers of the Patients here: of a declared system, or marked as medical record numbers.
create or replace temp table numbers as
with listed as (
    select file_no, place,
        from_json(identifier, '[{"system":"VARCHAR","value":"VARCHAR","type":{"coding":[{"code":"VARCHAR"}]}}]') as found
    from incoming
    where "resourceType" = 'Patient' and json_type(identifier) = 'ARRAY'
),

unpacked as (
    select file_no, place, generate_subscripts(found, 1) as position, unnest(found) as number from listed
)

select
    unpacked.file_no, unpacked.place, unpacked.position,
    pseudonym('person', coalesce(authority, file.source_id || ':' || number.system), number.value) as number_key
from unpacked
join payload_meta as file on unpacked.file_no = file.file_no
left join authority_of on file.source_id = authority_of.source_id and number.system = authority_of.system
where number.value is not null and number.system is not null
    and (authority is not null or list_contains(list_transform(number.type.coding, lambda c: c.code), 'MR'));

-- A Patient is known by its logical id; without one by its first record number, else by its place in the bundle.
create or replace temp table own_keys as
with first_numbers as (
    select file_no, place, arg_min(number_key, position) as number_key from numbers group by file_no, place
)

select
    incoming.file_no, incoming.place, incoming.full_url, 'Patient' as target_type,
    coalesce(
        pseudonym('person', file.namespace, incoming.id),
        first_numbers.number_key,
        pseudonym('person', file.namespace, incoming.full_url)
    ) as target_key
from incoming
join payload_meta as file on incoming.file_no = file.file_no
left join first_numbers on incoming.file_no = first_numbers.file_no and incoming.place = first_numbers.place
where incoming."resourceType" = 'Patient'

union all

select
    incoming.file_no, incoming.place, incoming.full_url, incoming."resourceType" as target_type,
    pseudonym(lower(incoming."resourceType"), file.namespace, coalesce(incoming.id, incoming.full_url)) as target_key
from incoming
join payload_meta as file on incoming.file_no = file.file_no
where incoming."resourceType" in ('Encounter', 'Medication');

create or replace temp table targets as
with written as (
    select file_no, reference_of(subject, contained) as reference from incoming
    where "resourceType" in ('Encounter', 'Observation', 'Condition', 'MedicationRequest', 'MedicationStatement')
    union
    select file_no, visit_of(encounter, context) from incoming
    where "resourceType" in ('Observation', 'Condition', 'MedicationRequest', 'MedicationStatement')
    union
    select file_no, "medicationReference".reference from incoming
    where "resourceType" in ('MedicationRequest', 'MedicationStatement')
    union
    select file_no, unnest(from_json(link, '[{"other":{"reference":"VARCHAR"}}]')).other.reference from incoming
    where "resourceType" = 'Patient' and json_type(link) = 'ARRAY'
),

addresses as (
    select file_no, full_url, any_value(target_type) as target_type, any_value(target_key) as target_key
    from own_keys
    where full_url is not null
    group by file_no, full_url
),

read as (
    select
        written.file_no, written.reference, file.source_id, file.namespace,
        regexp_extract(
            written.reference, '(?:^|/)([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[^/]*)?$', ['type', 'id']
        ) as direct,
        regexp_extract(
            written.reference, '(?:^|/)([A-Z][A-Za-z]+)\?(?:[^#]*&)?identifier=([^&]*)', ['type', 'token']
        ) as asked
    from written
    join payload_meta as file on written.file_no = file.file_no
    where written.reference is not null
),

asked as (
    select * exclude (asked),
        asked.type as asked_type,
        nullif(split_part(url_decode(asked.token), '|', 1), '') as asked_system,
        nullif(split_part(url_decode(asked.token), '|', 2), '') as asked_value
    from read
)

select
    asked.file_no,
    asked.reference,
    coalesce(addresses.target_type, nullif(asked.direct.type, ''), nullif(asked.asked_type, '')) as target_type,
    case
        when addresses.target_key is not null then addresses.target_key
        when asked.direct.type = 'Patient' then pseudonym('person', asked.namespace, asked.direct.id)
        when asked.direct.type in ('Encounter', 'Medication')
            then pseudonym(lower(asked.direct.type), asked.namespace, asked.direct.id)
        when asked.asked_type in ('Patient', 'Encounter', 'Medication')
            then pseudonym(
                if(asked.asked_type = 'Patient', 'person', lower(asked.asked_type)),
                coalesce(authority_of.authority, asked.source_id || ':' || asked.asked_system),
                asked.asked_value
            )
    end as target_key
from asked
left join addresses on asked.file_no = addresses.file_no and asked.reference = addresses.full_url
left join authority_of on asked.source_id = authority_of.source_id and asked.asked_system = authority_of.system;

-- Every resource that is about a patient, with whose it is, which visit, and when it became known.
create or replace temp view about_patients as
select
    incoming.* exclude (id),
    file.payload_id, file.source_id, file.namespace, file.time_zone, file.is_shifted, file.received_at,
    file.latest_plausible_at, file.fallback,
    if(file.is_shifted, ['dates_shifted'], cast([] as varchar[])) as source_flags,
    incoming.file_no * 4294967296 + incoming.place as n,
    incoming.id as id,
    reference_of(incoming.subject, incoming.contained) as subject_reference,
    person.target_type as subject_type,
    if(person.target_type = 'Patient', person.target_key, null) as person_key,
    if(visit.target_type = 'Encounter', visit.target_key, null) as visit_key,
    visit_of(incoming.encounter, incoming.context) is not null
        and (visit.target_key is null or visit.target_type <> 'Encounter') as is_visit_lost,
    fhir_at(incoming.meta."lastUpdated", file.time_zone) as version_at,
    fhir_at(
        coalesce(incoming.issued, incoming."recordedDate", incoming."authoredOn", incoming."dateAsserted"), file.time_zone
    ) as recorded_at_or_null
from incoming
join payload_meta as file on incoming.file_no = file.file_no
left join targets as person
    on incoming.file_no = person.file_no and reference_of(incoming.subject, incoming.contained) = person.reference
left join targets as visit
    on incoming.file_no = visit.file_no and visit_of(incoming.encounter, incoming.context) = visit.reference
where incoming.method is distinct from 'DELETE';

-- When a version became known, and on what that rests.
create or replace temp macro known_at_of(version_at, recorded_at, event_at, fallback, received_at) as
    coalesce(version_at, recorded_at, if(fallback = 'event', event_at, null), received_at);

create or replace temp macro known_basis_of(version_at, recorded_at, event_at, fallback) as
    case
        when version_at is not null then 'version'
        when recorded_at is not null then 'recorded'
        when fallback = 'event' and event_at is not null then 'event'
        else 'receipt'
    end;

-- Why a resource about a patient cannot be used, as far as its subject goes.
create or replace temp macro subject_verdict(subject_reference, subject_type, person_key) as
    case
        when subject_reference is null then 'no_subject'
        when subject_type is not null and subject_type <> 'Patient' then 'not_about_a_patient'
        when person_key is null then 'unresolvable_reference'
    end;

create or replace temp macro future_flags(event_at, latest_plausible_at, is_shifted) as
    if(event_at > latest_plausible_at and not is_shifted, ['future_date'], []);
