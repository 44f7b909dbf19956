{#
    The order in which the hospital told us: by the time it says, then by arrival. A message may land in any batch, so the
    batch decides nothing, except between rows landed before `inbox_sequence` was kept: they come before all others. Within
    a payload the place counts: 'message 9 OBX[2]' comes before 'message 10 OBX[1]', 'entry[9]' before 'entry[10]'.
#}
{% macro told_order_columns(relation='') -%}
    {%- set of = relation ~ '.' if relation else '' -%}
    {{ of }}known_at,
    coalesce({{ of }}inbox_sequence, {{ of }}batch_id - 1000000000000),
    coalesce(try_cast(split_part({{ of }}locator, ' ', 2) as integer), 0),
    length({{ of }}locator),
    {{ of }}locator
{%- endmacro %}


{% macro told_order(relation='') -%}
    row({{ told_order_columns(relation) }})
{%- endmacro %}


{# When the next version of the same record became known. #}
{% macro superseded_at() -%}
    lead(known_at) over (partition by record_key order by {{ told_order_columns() }})
{%- endmacro %}


{# A version that says something, and that nothing told at the same moment replaced. #}
{% macro is_told() -%}
    not is_retracted and (superseded_at is null or superseded_at > known_at)
{%- endmacro %}


{#
    The same fact told by several routes, or again without a change, becomes one version. It is known from the first that
    told it, and superseded as soon as one of them takes it back or tells otherwise; told once more after that, it is a
    version anew. `columns` name the content, `kept` come from the version told first, `newest` from the one told last.
    Needs patient_key, record_key, version_key, event_at, known_at, superseded_at.
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
        min(changed_at) as superseded_at,
        min(known_at) as known_at,
    from (
        select
            *,
            len(list_filter(list(changed_at) over (partition by {{ content }}), lambda moment: moment <= known_at))
                as changes_before,
        from (
            select
                *,
                case
                    when
                        coalesce(
                            superseded_at <> lead(known_at) over (
                                partition by record_key, {{ content }} order by known_at
                            ),
                            true
                        )
                        then superseded_at
                end as changed_at,
            from {{ relation }}
        )
    )
    group by {{ content }}, changes_before
{%- endmacro %}
