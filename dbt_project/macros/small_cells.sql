{#
    A count that may be shown: at least 11, and at least 11 in what remains of the whole, which could be had by subtraction
    (secondary suppression). Nothing is shown of a whole that is not shown itself.
#}
{% macro shown(count, whole) -%}
    case
        when {{ count }} >= 11 and {{ whole }} - {{ count }} >= 11 then {{ count }}
    end
{%- endmacro %}


{# Age in bands that are capped, as analysts may see it. #}
{% macro age_band(birth_date, day) -%}
    case
        when {{ birth_date }} > {{ day }} - interval 40 years then '18-39'
        when {{ birth_date }} > {{ day }} - interval 60 years then '40-59'
        when {{ birth_date }} > {{ day }} - interval 75 years then '60-74'
        when {{ birth_date }} > {{ day }} - interval 85 years then '75-84'
        else '85+'
    end
{%- endmacro %}
