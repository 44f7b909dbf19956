{# A hospital's own codes, whatever its source is called, belong to one system. #}
{% macro code_family(system) -%}
    case when starts_with({{ system }}, 'local:') then 'local' else {{ system }} end
{%- endmacro %}


{#
    One row per distinct list of codings of a relation: the first coding that the seed maps, else the first one.
    Lists repeat, so the seed meets a few hundred of them and not every row.
#}
{% macro mapped_codings(relation, domain, column='codings') -%}
    select
        sets.codings,
        sets.coding.system as code_system,
        sets.coding.code as code,
        concepts.concept,
        coalesce(concepts.valid_from, '-infinity'::date) as valid_from,
        coalesce(concepts.valid_to, 'infinity'::date) as valid_to,
    from (
        select
            {{ column }} as codings,
            unnest({{ column }}) as coding,
            generate_subscripts({{ column }}, 1) as position,
        from (select distinct {{ column }} from {{ relation }})
    ) as sets
    left join {{ ref('concept_codes') }} as concepts
        on concepts.domain = '{{ domain }}'
        and concepts.code_system = {{ code_family('sets.coding.system') }}
        and concepts.code in (
            sets.coding.code,
            case when concepts.is_category then left(sets.coding.code, 3) end
        )
    qualify row_number() over (partition by sets.codings order by concepts.concept is null, sets.position) = 1
{%- endmacro %}


{# The concept, within the code's validity at that time. #}
{% macro valid_concept(mapping, event_at) -%}
    case
        when {{ event_at }}::date between {{ mapping }}.valid_from and {{ mapping }}.valid_to then {{ mapping }}.concept
    end
{%- endmacro %}


{# HL7 table 0004 and FHIR ActCode in four classes. #}
{% macro encounter_class(class_code) -%}
    case upper({{ class_code }})
        when 'AMB' then 'ambulatory'
        when 'O' then 'ambulatory'
        when 'R' then 'ambulatory'
        when 'VR' then 'ambulatory'
        when 'HH' then 'ambulatory'
        when 'EMER' then 'emergency'
        when 'E' then 'emergency'
        when 'IMP' then 'inpatient'
        when 'ACUTE' then 'inpatient'
        when 'NONAC' then 'inpatient'
        when 'OBSENC' then 'inpatient'
        when 'SS' then 'inpatient'
        when 'I' then 'inpatient'
        when 'B' then 'inpatient'
        else 'other'
    end
{%- endmacro %}


{# FHIR AdministrativeGender and HL7 table 0001. #}
{% macro sex(gender) -%}
    case lower({{ gender }})
        when 'female' then 'female'
        when 'f' then 'female'
        when 'male' then 'male'
        when 'm' then 'male'
        when 'other' then 'other'
        when 'o' then 'other'
        when 'a' then 'other'
        else 'unknown'
    end
{%- endmacro %}
