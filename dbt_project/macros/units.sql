{# A unit as seeds/unit_conversions.csv spells it: 'mm[Hg]' and 'mmHg' are mmhg; 'none' where none was sent. #}
{% macro normalized_unit(unit) -%}
    coalesce(nullif(regexp_replace(lower({{ unit }}), '[\s\[\]{}]', '', 'g'), ''), 'none')
{%- endmacro %}


{# Joins the one conversion that fits; where no unit was sent, the one in whose range the number lies. #}
{% macro conversion_for(conversion, measure, unit, value) -%}
    {{ conversion }}.measure = {{ measure }}
        and {{ conversion }}.unit = {{ normalized_unit(unit) }}
        and ({{ conversion }}.assumed_from is null or {{ value }} >= {{ conversion }}.assumed_from)
        and ({{ conversion }}.assumed_below is null or {{ value }} < {{ conversion }}.assumed_below)
{%- endmacro %}


{# The number in the canonical unit; as it was sent where its unit is not known. #}
{% macro converted(conversion, value, digits) -%}
    round({{ value }} * coalesce({{ conversion }}.factor, 1) + coalesce({{ conversion }}.summand, 0), {{ digits }})
{%- endmacro %}
