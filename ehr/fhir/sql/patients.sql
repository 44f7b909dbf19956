insert into new_fhir_patients by name
with shaped as (
    select
        about.* exclude (person_key),
        own_keys.target_key as person_key,
        case when gender in ('male', 'female', 'other', 'unknown') then gender end as known_gender,
        fhir_at("birthDate", 'UTC') as born_at,
        fhir_at("deceasedDateTime", time_zone) as deceased_at
    from about_patients as about
    left join own_keys on about.file_no = own_keys.file_no and about.place = own_keys.place
    where about."resourceType" = 'Patient'
),

hashed as (
    select
        *,
        content_of('Patient', row(
            version_at, person_key, known_gender, "birthDate", active, "deceasedBoolean", "deceasedDateTime"
        )) as content_hash
    from shaped
)

select
    n, payload_id, source_id, locator,
    coalesce(version_at, received_at) as known_at,
    if(version_at is not null, 'version', 'receipt') as known_at_basis,
    record_key_of(namespace, 'Patient', coalesce(id, person_key), content_hash) as record_key,
    content_hash, person_key,
    source_flags
        || if(length("birthDate") <= 7, ['partial_date'], [])
        || if(gender is not null and known_gender is null, ['gender_dropped'], []) as flags,
    known_gender as gender,
    cast(born_at as date) as birth_date,
    if(length("birthDate") > 10, 'day', fhir_precision("birthDate")) as birth_date_precision,
    coalesce(active, true) as is_active,
    coalesce("deceasedBoolean", "deceasedDateTime" is not null) as is_deceased,
    deceased_at,
    fhir_precision("deceasedDateTime") as deceased_precision,
    case
        when person_key is null then 'no_id'
        when "birthDate" is not null and born_at is null then 'bad_date'
        when "deceasedDateTime" is not null and deceased_at is null then 'bad_date'
    end as reason_code,
    case
        when person_key is null then 'id'
        when "birthDate" is not null and born_at is null then 'birthDate'
        else 'deceasedDateTime'
    end as reason_path
from hashed;

-- The same person under another number, and registrations that were merged.
insert into new_fhir_person_links by name
with landed as (
    select patients.n, patients.payload_id, patients.source_id, patients.locator, patients.known_at,
        patients.known_at_basis, patients.person_key, incoming.file_no, incoming.place, incoming.link
    from incoming
    join new_fhir_patients as patients on incoming.file_no * 4294967296 + incoming.place = patients.n
    where incoming."resourceType" = 'Patient' and patients.reason_code is null
),

linked as (
    select *, unnest(from_json(link, '[{"other":{"reference":"VARCHAR"},"type":"VARCHAR"}]')) as other
    from landed
    where json_type(link) = 'ARRAY'
),

links as (
    select landed.* exclude (link), 'identifier' as link_type, numbers.number_key as other_person_key
    from landed
    join numbers on landed.file_no = numbers.file_no and landed.place = numbers.place

    union all

    select
        linked.* exclude (link, other) replace (
            if(linked.other."type" = 'replaced-by', linked.person_key, targets.target_key) as person_key
        ),
        'merge' as link_type,
        if(linked.other."type" = 'replaced-by', targets.target_key, linked.person_key) as other_person_key
    from linked
    join targets on linked.file_no = targets.file_no and linked.other.other.reference = targets.reference
    where linked.other."type" in ('replaced-by', 'replaces')
        and targets.target_type = 'Patient' and targets.target_key is not null
)

select
    n, payload_id, source_id, locator, known_at, known_at_basis,
    content_of('link', row(person_key, link_type, other_person_key)) as record_key,
    content_of('link', row(person_key, link_type, other_person_key)) as content_hash,
    person_key, cast([] as varchar[]) as flags, link_type, other_person_key
from links
where person_key <> other_person_key;
