-- The landing tables of the clinical catalog: append-only, one row per source fact, nothing that names a person.
--
-- Every fact row opens with the same columns:
--   source_id        which source of sources.toml it came from
--   payload_id       SHA-256 of the payload it came in (the archive holds the bytes)
--   locator          where in the payload: 'entry[3]', 'line 17', 'message 2 OBX[4]'
--   batch_id         which landing brought it: builds read batches up to a number
--   inbox_sequence   the payload's place in the order of arrival: decides between facts known at the same time (null:
--                    landed before it was kept, so older than every row that has one)
--   landed_at        when it reached the lake
--   known_at         when the hospital told us: message or version time, else receipt
--   known_at_basis   version | recorded | message | receipt | event (declared for a backfilled source)
--   record_key       pseudonym of the record's identity (source, type, id): versions of one record share it
--   content_hash     of the allow-listed content: the same record_key and content_hash is a duplicate
--   person_key       pseudonym of the person as this source names them; dbt resolves links to a patient_key
--   flags            what was noticed: no_offset, partial_date, no_unit, dates_shifted, value_text_dropped, ...
-- A time is three columns: *_at (UTC instant; start of the period where partial), *_offset_minutes (as sent; null when
-- the source's zone was taken) and *_precision (year | month | day | minute | second).

create schema if not exists raw;

create table if not exists raw.landings (
    payload_id varchar, source_id varchar, format varchar, batch_id bigint, inbox_sequence bigint, as_of date,
    size_bytes bigint, received_at timestamptz, landed_at timestamptz,
    counts struct(unit varchar, type varchar, received bigint, accepted bigint, duplicate bigint, ignored bigint,
                  quarantined bigint)[]
);

create table if not exists raw.person_links (
    source_id varchar, payload_id varchar, locator varchar, batch_id bigint, inbox_sequence bigint,
    landed_at timestamptz,
    known_at timestamptz, known_at_basis varchar, record_key varchar, content_hash varchar, person_key varchar,
    flags varchar[],
    link_type varchar,           -- identifier (same person under another number) | merge | unmerge
    other_person_key varchar     -- merge: person_key was folded into other_person_key
);

create table if not exists raw.fhir_patients (
    source_id varchar, payload_id varchar, locator varchar, batch_id bigint, inbox_sequence bigint,
    landed_at timestamptz,
    known_at timestamptz, known_at_basis varchar, record_key varchar, content_hash varchar, person_key varchar,
    flags varchar[],
    gender varchar, birth_date date, birth_date_precision varchar,
    is_active boolean, is_deceased boolean, deceased_at timestamptz, deceased_precision varchar
);

create table if not exists raw.hl7v2_patients (
    source_id varchar, payload_id varchar, locator varchar, batch_id bigint, inbox_sequence bigint,
    landed_at timestamptz,
    known_at timestamptz, known_at_basis varchar, record_key varchar, content_hash varchar, person_key varchar,
    flags varchar[],
    message_type varchar,        -- e.g. ADT^A08
    gender varchar, birth_date date, birth_date_precision varchar,
    is_active boolean, is_deceased boolean, deceased_at timestamptz, deceased_precision varchar
);

create table if not exists raw.fhir_encounters (
    source_id varchar, payload_id varchar, locator varchar, batch_id bigint, inbox_sequence bigint,
    landed_at timestamptz,
    known_at timestamptz, known_at_basis varchar, record_key varchar, content_hash varchar, person_key varchar,
    flags varchar[],
    encounter_key varchar, status varchar, class_code varchar,
    started_at timestamptz, started_offset_minutes smallint, started_precision varchar,
    ended_at timestamptz, ended_offset_minutes smallint, ended_precision varchar
);

create table if not exists raw.hl7v2_messages (
    source_id varchar, payload_id varchar, locator varchar, batch_id bigint, inbox_sequence bigint,
    landed_at timestamptz,
    known_at timestamptz, known_at_basis varchar,
    record_key varchar,          -- pseudonym of (MSH-3, MSH-4, MSH-10): the message's identity
    content_hash varchar,        -- of the whole message, keyed: same identity and hash is a duplicate
    person_key varchar, flags varchar[],
    message_type varchar
);

create table if not exists raw.hl7v2_encounters (
    source_id varchar, payload_id varchar, locator varchar, batch_id bigint, inbox_sequence bigint,
    landed_at timestamptz,
    known_at timestamptz, known_at_basis varchar, record_key varchar, content_hash varchar, person_key varchar,
    flags varchar[],
    message_type varchar,        -- A11 and A13 cancel; A45 moves the encounter to this row's person_key
    encounter_key varchar, status varchar, class_code varchar,
    started_at timestamptz, started_offset_minutes smallint, started_precision varchar,
    ended_at timestamptz, ended_offset_minutes smallint, ended_precision varchar
);

create table if not exists raw.fhir_observations (
    source_id varchar, payload_id varchar, locator varchar, batch_id bigint, inbox_sequence bigint,
    landed_at timestamptz,
    known_at timestamptz, known_at_basis varchar, record_key varchar, content_hash varchar, person_key varchar,
    flags varchar[],
    encounter_key varchar, status varchar,
    event_at timestamptz, event_offset_minutes smallint, event_precision varchar,
    codings struct(system varchar, code varchar)[],
    value_number double, value_unit varchar,
    value_text varchar,          -- kept only when it is a number, a pair of numbers, or a code-like word
    value_codings struct(system varchar, code varchar)[],
    components struct(codings struct(system varchar, code varchar)[], value_number double, value_unit varchar,
                      value_text varchar)[]
);

create table if not exists raw.hl7v2_observations (
    source_id varchar, payload_id varchar, locator varchar, batch_id bigint, inbox_sequence bigint,
    landed_at timestamptz,
    known_at timestamptz, known_at_basis varchar, record_key varchar, content_hash varchar, person_key varchar,
    flags varchar[],
    message_type varchar, encounter_key varchar,
    status varchar,              -- OBX-11: F C P D X W ...
    event_at timestamptz, event_offset_minutes smallint, event_precision varchar,
    group_key varchar,           -- pseudonym of the order (OBR) the observation belongs to: pairs systolic with diastolic
    codings struct(system varchar, code varchar)[],
    value_type varchar,          -- OBX-2: NM SN ST CE CWE
    value_number double, value_comparator varchar, value_unit varchar, value_text varchar,
    value_codings struct(system varchar, code varchar)[]
);

create table if not exists raw.fhir_conditions (
    source_id varchar, payload_id varchar, locator varchar, batch_id bigint, inbox_sequence bigint,
    landed_at timestamptz,
    known_at timestamptz, known_at_basis varchar, record_key varchar, content_hash varchar, person_key varchar,
    flags varchar[],
    encounter_key varchar, clinical_status varchar, verification_status varchar,
    codings struct(system varchar, code varchar)[],
    onset_at timestamptz, onset_offset_minutes smallint, onset_precision varchar,
    abated_at timestamptz, recorded_at timestamptz
);

create table if not exists raw.hl7v2_conditions (
    source_id varchar, payload_id varchar, locator varchar, batch_id bigint, inbox_sequence bigint,
    landed_at timestamptz,
    known_at timestamptz, known_at_basis varchar, record_key varchar, content_hash varchar, person_key varchar,
    flags varchar[],
    message_type varchar,
    encounter_key varchar, clinical_status varchar, verification_status varchar,
    codings struct(system varchar, code varchar)[],
    onset_at timestamptz, onset_offset_minutes smallint, onset_precision varchar,
    abated_at timestamptz, recorded_at timestamptz
);

create table if not exists raw.fhir_medications (
    source_id varchar, payload_id varchar, locator varchar, batch_id bigint, inbox_sequence bigint,
    landed_at timestamptz,
    known_at timestamptz, known_at_basis varchar, record_key varchar, content_hash varchar, person_key varchar,
    flags varchar[],
    resource_type varchar,       -- MedicationRequest | MedicationStatement
    encounter_key varchar, status varchar, intent varchar,
    codings struct(system varchar, code varchar)[],
    medication_key varchar,      -- set when the drug is a reference: joins raw.fhir_medication_codes
    event_at timestamptz, event_offset_minutes smallint, event_precision varchar, ended_at timestamptz
);

create table if not exists raw.fhir_medication_codes (
    source_id varchar, payload_id varchar, locator varchar, batch_id bigint, inbox_sequence bigint,
    landed_at timestamptz,
    known_at timestamptz, known_at_basis varchar, record_key varchar, content_hash varchar, person_key varchar,
    flags varchar[],
    medication_key varchar,
    codings struct(system varchar, code varchar)[]
);
