{# Holds when an SQL condition is true, or unknown, for every row. #}
{% test holds(model, condition) %}
    select 1
    from {{ model }}
    where not ({{ condition }})
{% endtest %}
