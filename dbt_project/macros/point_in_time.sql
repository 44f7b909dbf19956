{# The day this build speaks of, as a SQL date. #}
{% macro as_of() -%}
    date '{{ var("as_of") }}'
{%- endmacro %}


{# A date includes the whole of its day (UTC): what happened or became known before the next midnight. #}
{% macro cutoff(date_expression) -%}
    ({{ date_expression }} + 1)::timestamptz
{%- endmacro %}


{# The version of a fact that had happened, and that the hospital had told us, before a moment. #}
{% macro known_by(fact, moment) -%}
    {{ fact }}.event_at < {{ moment }}
        and {{ fact }}.known_at < {{ moment }}
        and ({{ fact }}.superseded_at is null or {{ fact }}.superseded_at >= {{ moment }})
{%- endmacro %}
