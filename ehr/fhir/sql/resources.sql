-- Every resource of the files being read, with whose it is. Input: `incoming` (payload_id, source_id, time_zone,
-- fallback, is_shifted, locator, full_url, method, r), `authority_of` (source_id, system, authority).
create or replace temp table within_bundle as
select distinct payload_id, full_url, r."resourceType" as resource_type, r.id as id
from incoming
where full_url is not null and r.id is not null;

create or replace temp table resources as
with referenced as (
    select
        *,
        r."resourceType" as resource_type,
        case when r."resourceType" = 'Patient' then 'Patient/' || r.id else r.subject.reference end as subject_reference,
        coalesce(r.encounter.reference, r.context->>'$.reference') as encounter_reference
    from incoming
),

resolved as (
    select
        referenced.*,
        case
            when subject.id is not null then subject.resource_type || '/' || subject.id
            else subject_reference
        end as subject_resolved,
        case when visit.id is not null then 'Encounter/' || visit.id else encounter_reference end as encounter_resolved
    from referenced
    left join within_bundle as subject
        on subject_reference like 'urn:%'
        and referenced.payload_id = subject.payload_id and subject_reference = subject.full_url
    left join within_bundle as visit
        on encounter_reference like 'urn:%'
        and referenced.payload_id = visit.payload_id and encounter_reference = visit.full_url
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
        when resource_type = 'Encounter' and r.id is not null
            then pseudonym('encounter', identified.source_id || ':fhir', r.id)
        when encounter_id is not null then pseudonym('encounter', identified.source_id || ':fhir', encounter_id)
    end as encounter_key,
    pseudonym('record', identified.source_id || ':fhir', resource_type || '/' || coalesce(r.id, md5(cast(r as varchar))))
        as record_key,
    case
        when r.meta."lastUpdated" is not null then 'version'
        when coalesce(r.issued, r."recordedDate", r."authoredOn", r."dateAsserted") is not null then 'recorded'
        else fallback
    end as known_at_basis,
    coalesce(r.meta."lastUpdated", r.issued, r."recordedDate", r."authoredOn", r."dateAsserted") as known_text,
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
            when resource_type in ('Patient', 'Encounter', 'Medication') and r.id is null then 'no_id'
            when resource_type = 'Medication' then null
            when person_key is null and subject_resolved is null then 'no_subject'
            when person_key is null and subject_resolved like '#%' then 'contained_subject'
            when person_key is null then 'unresolved_reference'
            when known_text is not null and fhir_at(known_text, time_zone) is null then 'bad_known_time'
            when resource_type = 'Observation' and event_text(r) is null then 'no_time'
            when resource_type = 'Observation' and fhir_at(event_text(r), time_zone) is null then 'bad_time'
            when resource_type = 'Observation' and r.code.coding is null then 'no_code'
            when resource_type = 'Encounter' and fhir_at(r.period->>'$.start', time_zone) is null then 'bad_time'
            when resource_type in ('Condition') and r.code.coding is null then 'no_code'
        end as reason_code,
        case
            when resource_type is null then 'resourceType is missing'
            when method = 'DELETE' then 'request.method DELETE'
            when resource_type in ('Patient', 'Encounter', 'Medication') and r.id is null then 'id is missing'
            when person_key is null then 'subject.reference'
            when known_text is not null and fhir_at(known_text, time_zone) is null
                then 'meta.lastUpdated, issued, recordedDate, authoredOn or dateAsserted'
            when resource_type = 'Observation' and r.code.coding is null then 'code.coding'
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

create or replace temp table usable as
select resources.*, coalesce(fhir_at(known_text, time_zone), fallback_known_at(r, fallback, time_zone, received_at)) as known_at
from resources
anti join refused using (payload_id, locator)
anti join ignored using (payload_id, locator);
