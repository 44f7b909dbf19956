-- Times as FHIR writes them: 2024, 2024-03, 2024-03-05, 2024-03-05T10:00(:00(.000))(Z|+hh:mm).
create or replace temp macro has_offset(text) as
    length(text) > 10 and (text[-1] = 'Z' or (text[-3] = ':' and text[-6] in ('+', '-')));

-- The instant a text means, or null. The first character keeps 'infinity' and 'epoch' out, which a cast would take.
create or replace temp macro fhir_at(text, zone) as
    case
        when text is null or text[1] not between '0' and '9' then null
        when length(text) > 10 and text[17] is distinct from ':'
            then case
                when has_offset(text) then try_cast(text[:16] || ':00' || text[17:] as timestamptz)
                else timezone(zone, try_cast(text[:16] || ':00' || text[17:] as timestamp))
            end
        when has_offset(text) then try_cast(text as timestamptz)
        when length(text) = 4 then timezone(zone, try_cast(text || '-01-01' as timestamp))
        when length(text) = 7 then timezone(zone, try_cast(text || '-01' as timestamp))
        else timezone(zone, try_cast(text as timestamp))
    end;

create or replace temp macro fhir_offset_minutes(text) as
    case
        when text is null or not has_offset(text) then null
        when text[-1] = 'Z' then 0
        else cast((try_cast(text[-5:-4] as integer) * 60 + try_cast(text[-2:] as integer))
            * if(text[-6] = '-', -1, 1) as smallint)
    end;

create or replace temp macro fhir_precision(text) as
    case
        when text is null then null
        when length(text) = 4 then 'year'
        when length(text) = 7 then 'month'
        when length(text) = 10 then 'day'
        when text[17] = ':' then 'second'
        else 'minute'
    end;

create or replace temp macro time_flags(text) as
    case
        when text is null or has_offset(text) then []
        when length(text) <= 7 then ['partial_date', 'no_offset']
        else ['no_offset']
    end;

-- What text may pass. A name typed where a code, a unit or a number belongs has none of these shapes, save a single
-- word in a code: systems whose codes are free text are for the integrator to find (`cuff quarantine` cannot).
-- Lengths are asked apart: counted within the pattern they cost three times as much.
create or replace temp macro code_shaped(text) as
    case when length(text) <= 64 and regexp_full_match(text, '[A-Za-z0-9][A-Za-z0-9.\-_/^:+*%]*') then text end;

create or replace temp macro system_shaped(text) as
    case when length(text) <= 200 and regexp_full_match(text, '[A-Za-z0-9][A-Za-z0-9.\-_/:#?=&%~]*') then text end;

-- Of the value sets that FHIR requires for the statuses that are kept (and R5's words for them).
create or replace temp macro status_of(text) as
    case when text in (
        'active', 'amended', 'appended', 'arrived', 'cancelled', 'completed', 'confirmed', 'corrected', 'differential',
        'directive', 'discharged', 'discontinued', 'draft', 'ended', 'entered-in-error', 'filler-order', 'final', 'finished',
        'in-progress', 'inactive', 'instance-order', 'intended', 'not-taken', 'on-hold', 'onleave', 'option', 'order',
        'original-order', 'partial', 'plan', 'planned', 'preliminary', 'proposal', 'provisional', 'recorded', 'recurrence',
        'reflex-order', 'refuted', 'registered', 'relapse', 'remission', 'resolved', 'stopped', 'triaged', 'unconfirmed',
        'unknown'
    ) then text end;

-- ActCode's classes of encounters, and the letters of HL7 table 0004.
create or replace temp macro class_of(text) as
    case
        when upper(text) in ('ACUTE', 'AMB', 'EMER', 'FLD', 'HH', 'IMP', 'NONAC', 'OBSENC', 'PRENC', 'SS', 'VR')
            or regexp_full_match(text, '[A-Za-z]')
            then text
    end;

create or replace temp macro codings_of(coding) as
    list_filter(
        list_transform(coding, lambda c: {'system': system_shaped(c.system), 'code': code_shaped(c.code)}),
        lambda c: c.code is not null
    );

create or replace temp macro codings_text(codings) as
    array_to_string(list_transform(codings, lambda c: concat(c.system, '|', c.code)), ',');

-- Answers: of published code systems alone. A code of any other may be anything, a telephone number too.
create or replace temp macro answers_of(coding) as
    list_filter(codings_of(coding), lambda c: regexp_matches(c.system,
        '^(http://(loinc[.]org|snomed[.]info/sct|(terminology[.])?hl7[.]org/|www[.]nlm[.]nih[.]gov/)|urn:oid:2[.]16[.]840[.]1[.]113883[.])'));

create or replace temp macro is_of_unit_words(unit) as
    regexp_full_match(unit, getvariable('cuff_unit_pattern'));

-- '{dropped}' where one was sent that may not pass: a missing unit is taken for the measure's usual one (ehr/units.py).
create or replace temp macro unit_of(quantity) as
    case
        when regexp_full_match(quantity.code, '[A-Za-z0-9%µ°/\[\]{}.*^()''_\-]{1,24}') and is_of_unit_words(quantity.code)
            then quantity.code
        when regexp_full_match(quantity.unit,
            '[A-Za-z0-9%µ°/\[\]{}.*^()''_\-]{1,20}|[a-z0-9%µ°/\[\]{}.*^]{1,12}( ([a-z0-9%µ°/\[\]{}.*^]{1,12}|Hg|H2O|[A-Z]{1,2})){1,3}')
            and is_of_unit_words(quantity.unit)
            then quantity.unit
        when trim(coalesce(quantity.code, '') || coalesce(quantity.unit, '')) <> '' then '{dropped}'
    end;

-- Text that can name nobody: a number, a pair of numbers, or a word of the usual answers.
create or replace temp macro safe_text(text) as
    case
        when regexp_full_match(trim(text), '[<>]?=?\s?[+-]?[0-9]{1,5}([.,][0-9]{1,6})?') then trim(text)
        when regexp_full_match(trim(text), '[0-9]{2,3}([.,][0-9]{1,2})?\s*/\s*[0-9]{2,3}([.,][0-9]{1,2})?(\s*(mm\s?\[?Hg\]?|kPa))?')
            then trim(text)
        when regexp_full_match(trim(text),
            '(?i)pos|positive|neg|negative|normal|abnormal|yes|no|true|false|never|former|current|unknown|trace|\+{1,4}|LA[0-9]{1,7}-[0-9]')
            then trim(text)
    end;

create or replace temp macro finite(number) as case when isfinite(number) then number end;

-- Keyed, so that a hash of little content (a birth date) cannot be guessed; truncated, so that it cannot be extended.
create or replace temp macro content_of(kind, parts) as
    left(sha256(getvariable('cuff_ipad') || encode(kind || cast(parts as varchar))), 32);

create or replace temp macro record_key_of(namespace, kind, id, content) as
    pseudonym('record', namespace || ':' || kind, coalesce(id, 'content:' || content));

-- The reference as written; a subject inside the resource, or known by a record number alone, becomes the conditional
-- reference that says the same.
create or replace temp macro reference_of(written, contained) as
    case
        when written.reference like '#%' then coalesce(
            'Patient?identifier=' || list_transform(
                list_filter(
                    from_json(contained, '[{"id":"VARCHAR","resourceType":"VARCHAR","identifier":[{"system":"VARCHAR","value":"VARCHAR"}]}]'),
                    lambda c: '#' || c.id = written.reference and c."resourceType" = 'Patient'
                ),
                lambda c: c.identifier[1].system || '|' || c.identifier[1].value
            )[1],
            written.reference
        )
        when written.reference is not null then written.reference
        when written.identifier.value is not null
            then coalesce(written."type", 'Patient') || '?identifier=' || coalesce(written.identifier.system, '') || '|'
                || written.identifier.value
    end;

create or replace temp macro visit_of(encounter, context) as coalesce(encounter.reference, context ->> '$.reference');

create or replace temp macro event_text_of(at_time, at_period, at_instant) as
    coalesce(at_time, at_period.start, at_instant);
