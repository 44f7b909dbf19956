{# When the next version of the same record became known. #}
{% macro superseded_at() -%}
    lead(known_at) over (partition by record_key order by known_at, batch_id, locator)
{%- endmacro %}


{# A version that says something, and that nothing told at the same moment replaced. #}
{% macro is_told() -%}
    not is_retracted and (superseded_at is null or superseded_at > known_at)
{%- endmacro %}


{#
    The same fact told by several routes, or again without a change, becomes one version: versions of equal content whose
    times touch are merged. Known from the first told, superseded when the last of them is. `columns` name the content,
    `kept` come from the version told first, `newest` from the one told last.
    Needs patient_key, version_key, event_at, known_at, superseded_at.
#}
{% macro merge_routes(relation, columns, kept, newest=[], moment="date_trunc('minute', event_at)") -%}
    {%- set content = (['patient_key', moment] + columns) | join(', ') -%}
    select
        patient_key,
        {{ columns | join(', ') }},
        arg_min(version_key, (known_at, version_key)) as version_key,
        arg_min(event_at, (known_at, version_key)) as event_at,
        {% for column in kept -%}
        arg_min({{ column }}, (known_at, version_key)) as {{ column }},
        {% endfor -%}
        {% for column in newest -%}
        arg_max({{ column }}, (known_at, version_key)) as {{ column }},
        {% endfor -%}
        nullif(max(coalesce(superseded_at, 'infinity'::timestamptz)), 'infinity'::timestamptz) as superseded_at,
        min(known_at) as known_at,
    from (
        select
            *,
            sum(case when told_until >= known_at then 0 else 1 end) over (
                partition by {{ content }} order by known_at, version_key
            ) as island,
        from (
            select
                *,
                max(coalesce(superseded_at, 'infinity'::timestamptz)) over (
                    partition by {{ content }} order by known_at, version_key
                    rows between unbounded preceding and 1 preceding
                ) as told_until,
            from {{ relation }}
        )
    )
    group by {{ content }}, island
{%- endmacro %}
