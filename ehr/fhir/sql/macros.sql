-- Times as FHIR writes them: 2024, 2024-03, 2024-03-05, 2024-03-05T10:00:00(.000)(Z|+hh:mm).
create or replace temp macro fhir_precision(text) as
    case length(text) when 4 then 'year' when 7 then 'month' when 10 then 'day' else 'second' end;

create or replace temp macro fhir_has_offset(text) as
    regexp_matches(text, '(Z|[+-][0-9]{2}:[0-9]{2})$') and length(text) > 10;

create or replace temp macro fhir_at(text, zone) as
    case
        when text is null then null
        when fhir_has_offset(text) then try_cast(text as timestamptz)
        when length(text) = 4 then timezone(zone, try_cast(text || '-01-01' as timestamp))
        when length(text) = 7 then timezone(zone, try_cast(text || '-01' as timestamp))
        else timezone(zone, try_cast(text as timestamp))
    end;

create or replace temp macro fhir_offset_minutes(text) as
    case
        when text is null or not fhir_has_offset(text) then null
        when text like '%Z' then 0
        else cast(try_cast(text[-6:-4] as integer) * 60
            + if(text[-6] = '-', -1, 1) * try_cast(text[-2:] as integer) as smallint)
    end;

create or replace temp macro time_flags(text) as
    case
        when text is null then []
        when length(text) <= 7 then ['partial_date', 'no_offset']
        when length(text) = 10 then ['no_offset']
        when not fhir_has_offset(text) then ['no_offset']
        else []
    end;

-- Text that can name nobody: a number, a pair of numbers, or one short word of capitals and digits.
create or replace temp macro safe_text(text) as
    case
        when regexp_full_match(trim(text), '[<>]?=?-?[0-9]{1,6}([.,][0-9]{1,6})?') then trim(text)
        when regexp_full_match(trim(text), '[0-9]{2,3}(\.[0-9]+)?\s*/\s*[0-9]{2,3}(\.[0-9]+)?(\s*(mm\[?Hg\]?|mmHg))?')
            then trim(text)
    end;

-- The logical id in a relative, absolute or versioned reference of the given type.
create or replace temp macro referenced_id(reference, resource_type) as
    nullif(regexp_extract(reference, '(?:^|/)' || resource_type || '/([A-Za-z0-9\-.]{1,64})(?:/_history/[^/]*)?$', 1), '');

create or replace temp macro unit_of(quantity) as
    coalesce(quantity.code, if(length(quantity.unit) <= 20, quantity.unit, null));

create or replace temp macro content_of(parts) as md5(cast(parts as varchar));
