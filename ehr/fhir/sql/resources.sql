-- Every resource of the files being read, with whose it is. Input: `incoming` (n, payload_id, source_id, time_zone,
-- fallback, is_shifted, received_at, locator, full_url, method, r), `authority_of` (source_id, system, authority).
--
-- The declared struct `r` is wide and nested: joining it costs far more than parsing it. So all that is decided here is
-- decided on a narrow table, and `usable` fetches `r` by its number at the very end.
create or replace temp table within_bundle as
select distinct payload_id, full_url, r."resourceType" as resource_type, r.id as id
from incoming
where full_url is not null and r.id is not null;

create or replace temp table narrow as
select
    n, payload_id, source_id, locator, method, time_zone, fallback, is_shifted, received_at,
    r."resourceType" as resource_type,
    r.id as id,
    if(r.id is null, md5(cast(r as varchar)), null) as content_digest,
    case when r."resourceType" = 'Patient' then 'Patient/' || r.id else r.subject.reference end as subject_reference,
    coalesce(r.encounter.reference, r.context->>'$.reference') as encounter_reference,
    r.meta."lastUpdated" as version_text,
    coalesce(r.issued, r."recordedDate", r."authoredOn", r."dateAsserted") as recorded_text,
    event_text(r) as event_text,
    r."onsetDateTime" as onset_text,
    if(r."resourceType" = 'Encounter', r.period->>'$.start', null) as start_text,
    r.code.coding is not null as has_code
from incoming;

create or replace temp table resources as
with resolved as (
    select
        narrow.*,
        case
            when subject.id is not null then subject.resource_type || '/' || subject.id
            else subject_reference
        end as subject_resolved,
        case when visit.id is not null then 'Encounter/' || visit.id else encounter_reference end as encounter_resolved
    from narrow
    left join within_bundle as subject
        on narrow.payload_id = subject.payload_id and subject_reference = subject.full_url
    left join within_bundle as visit
        on narrow.payload_id = visit.payload_id and encounter_reference = visit.full_url
),

identified as (
    select
        resolved.* exclude (subject_reference, encounter_reference),
        referenced_id(subject_resolved, 'Patient') as patient_id,
        regexp_extract(subject_resolved, '(?:^|/)Patient\?identifier=([^|&]*)\|([^&]+)', ['system', 'value']) as asked,
        coalesce(
            referenced_id(encounter_resolved, 'Encounter'),
            nullif(regexp_extract(encounter_resolved, '(?:^|/)Encounter\?identifier=(.+)$', 1), '')
        ) as encounter_id
    from resolved
)

select
    identified.* exclude (asked),
    case
        when patient_id is not null then pseudonym('person', identified.source_id || ':fhir', patient_id)
        when asked.value <> ''
            then pseudonym('person', coalesce(authority, identified.source_id || ':' || asked.system), asked.value)
    end as person_key,
    case
        when resource_type = 'Encounter' and id is not null
            then pseudonym('encounter', identified.source_id || ':fhir', id)
        when encounter_id is not null then pseudonym('encounter', identified.source_id || ':fhir', encounter_id)
    end as encounter_key,
    pseudonym('record', identified.source_id || ':fhir', resource_type || '/' || coalesce(id, content_digest))
        as record_key,
    case
        when version_text is not null then 'version'
        when recorded_text is not null then 'recorded'
        else fallback
    end as known_at_basis,
    coalesce(version_text, recorded_text) as known_text,
    if(is_shifted, ['dates_shifted'], cast([] as varchar[])) as source_flags
from identified
left join authority_of
    on identified.source_id = authority_of.source_id and asked.system = authority_of.system;

-- What cannot be used, and what has no use here. A resource is at most one of the two.
create or replace temp table refused as
with judged as (
    select payload_id, locator, coalesce(resource_type, 'unknown') as type,
        case
            when resource_type is null then 'no_resource_type'
            when method = 'DELETE' then 'unsupported_delete'
            when resource_type in ('Patient', 'Encounter', 'Medication') and id is null then 'no_id'
            when resource_type = 'Medication' then null
            when person_key is null and subject_resolved is null then 'no_subject'
            when person_key is null and subject_resolved like '#%' then 'contained_subject'
            when person_key is null then 'unresolved_reference'
            when known_text is not null and fhir_at(known_text, time_zone) is null then 'bad_known_time'
            when resource_type = 'Observation' and event_text is null then 'no_time'
            when resource_type = 'Observation' and fhir_at(event_text, time_zone) is null then 'bad_time'
            when resource_type = 'Observation' and not has_code then 'no_code'
            when resource_type = 'Encounter' and fhir_at(start_text, time_zone) is null then 'bad_time'
            when resource_type = 'Condition' and not has_code then 'no_code'
        end as reason_code,
        case
            when resource_type is null then 'resourceType is missing'
            when method = 'DELETE' then 'request.method DELETE'
            when resource_type in ('Patient', 'Encounter', 'Medication') and id is null then 'id is missing'
            when person_key is null then 'subject.reference'
            when known_text is not null and fhir_at(known_text, time_zone) is null
                then 'meta.lastUpdated, issued, recordedDate, authoredOn or dateAsserted'
            when resource_type = 'Observation' and not has_code then 'code.coding'
            when resource_type = 'Observation' then 'effective[x]'
            when resource_type = 'Encounter' then 'period.start'
            else 'code.coding'
        end as detail
    from resources
    where (resource_type is null or resource_type in (select type from handled_types))
        and is_not_about_a_patient(resource_type, subject_resolved) is not true
)

select * from judged where reason_code is not null;

create or replace temp table ignored as
select payload_id, locator,
    case
        when resource_type in (select type from handled_types) then resource_type || ' (not about a patient)'
        else resource_type
    end as type
from resources
where resource_type is not null
    and (
        resource_type not in (select type from handled_types)
        or is_not_about_a_patient(resource_type, subject_resolved)
    );

create or replace temp table usable_keys as
select
    n, payload_id, source_id, locator, time_zone, received_at, is_shifted, resource_type, person_key, encounter_key,
    record_key, known_at_basis, known_text, source_flags,
    coalesce(
        fhir_at(known_text, time_zone),
        if(fallback = 'event', coalesce(
            fhir_at(event_text, time_zone), fhir_at(onset_text, time_zone), fhir_at(start_text, time_zone)), null),
        received_at
    ) as known_at
from resources
anti join refused using (payload_id, locator)
anti join ignored using (payload_id, locator);

create or replace temp view usable as
select usable_keys.*, incoming_records.r
from incoming_records
join usable_keys using (n);
