{# A source's rows, or none with the same columns where nobody has written it yet. `columns`: name → type. #}
{% macro source_or_empty(schema, table, columns) -%}
    {%- set relation = source(schema, table) -%}
    {%- if not execute or load_relation(relation) -%}
        select {{ columns | join(', ') }} from {{ relation }}
    {%- else -%}
        select {% for name, type in columns.items() %}null::{{ type }} as {{ name }}{{ ', ' if not loop.last }}{% endfor %} where false
    {%- endif -%}
{%- endmacro %}
