{#
    Incremental strategy `changed_patients`: the rows of changed patients, and those that `incremental_predicates` name,
    go; what the model selected comes in their place, in the same transaction.
#}
{% macro get_incremental_changed_patients_sql(arguments) %}
    {%- set columns = get_quoted_csv(arguments["dest_columns"] | map(attribute="name")) -%}
    delete from {{ arguments["target_relation"] }}
    where
        patient_key in (select patient_key from {{ ref('int_patients__changed') }})
        {% for predicate in arguments["incremental_predicates"] or [] -%}
        or {{ predicate }}
        {% endfor -%};
    insert into {{ arguments["target_relation"] }} ({{ columns }})
    select {{ columns }} from {{ arguments["temp_relation"] }};
{% endmacro %}
