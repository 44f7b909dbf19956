{{ config(materialized='table') }}

with recursive

links as (

    -- A link told again is the same link, known from the first time on, in whichever order the two landed.
    select * from {{ source('raw', 'person_links') }}
    where {{ in_build() }} and other_person_key is not null
    qualify row_number() over (partition by record_key, content_hash order by {{ told_order_columns() }}) = 1

),

patient_rows as (

    select person_key, known_at from {{ ref('stg_fhir__patients') }}
    union all
    select person_key, known_at from {{ ref('stg_hl7v2__patients') }}
    union all
    select person_key, known_at from links
    union all
    select other_person_key, known_at from links

),

persons as (

    select person_key, min(known_at) as first_known_at
    from patient_rows
    group by person_key

),

-- What was said last of a pair counts: an unmerge undoes the link, a later merge makes it again.
linked_pairs as (

    select
        least(person_key, other_person_key) as person_key,
        greatest(person_key, other_person_key) as other_person_key,
        arg_max(link_type, {{ told_order() }}) <> 'unmerge' as is_linked,
    from links
    group by all

),

visits as (

    select encounter_key, person_key from {{ ref('stg_fhir__encounters') }}
    union all
    select encounter_key, person_key from {{ ref('stg_hl7v2__encounters') }}

),

-- A visit that was moved between persons: they are not one, but what changes for one may change the other's rows.
visit_pairs as (

    select distinct
        visits.person_key,
        shared.person_key as other_person_key,
    from visits
    inner join (
        select encounter_key, min(person_key) as person_key
        from visits
        group by encounter_key
        having min(person_key) <> max(person_key)
    ) as shared using (encounter_key)

),

edges as (

    select person_key, other_person_key, is_linked from linked_pairs
    union all
    select other_person_key, person_key, is_linked from linked_pairs
    union all
    select person_key, other_person_key, false from visit_pairs
    union all
    select other_person_key, person_key, false from visit_pairs

),

{# Everyone linked by now is one patient; everyone ever linked is one group. #}
{% for name, condition in [('component', 'is_linked'), ('group', 'true')] -%}
{{ name }}_edges as (

    select distinct person_key, other_person_key from edges where {{ condition }}

),

-- Most persons are linked to one other: labels travel between the few who are linked to several, and reach the rest at the end.
{{ name }}_hubs as (

    select person_key from {{ name }}_edges group by person_key having count(*) > 1

),

{{ name }}_hub_edges as (

    select * from {{ name }}_edges
    where
        person_key in (select person_key from {{ name }}_hubs)
        and other_person_key in (select person_key from {{ name }}_hubs)

),

-- Connected components by spreading the smallest label until nothing changes; only changed labels travel on.
{{ name }}_hub_labels(person_key, label) using key (person_key) as (

    select person_key, person_key from {{ name }}_hubs
    union
    select other.person_key, min(spread.label)
    from {{ name }}_hub_labels as spread
    inner join {{ name }}_hub_edges as hub_edges on spread.person_key = hub_edges.person_key
    inner join recurring.{{ name }}_hub_labels as other on hub_edges.other_person_key = other.person_key
    where spread.label < other.label
    group by other.person_key

),

{{ name }}_labels as (

    select person_key, label from {{ name }}_hub_labels
    union all
    select
        leaves.person_key,
        coalesce(hubs.label, least(leaves.person_key, leaves.other_person_key)) as label,
    from {{ name }}_edges as leaves
    left join {{ name }}_hub_labels as hubs on leaves.other_person_key = hubs.person_key
    where leaves.person_key not in (select person_key from {{ name }}_hubs)

),

{% endfor -%}
labelled as (

    select
        persons.person_key,
        persons.first_known_at,
        coalesce(component_labels.label, persons.person_key) as component_label,
        coalesce(group_labels.label, persons.person_key) as group_key,
    from persons
    left join component_labels using (person_key)
    left join group_labels using (person_key)

),

-- The person known first gives its key, so that a newcomer seldom renames a patient.
final as (

    select
        person_key,
        first_value(person_key) over (partition by component_label order by first_known_at, person_key) as patient_key,
        group_key,
    from labelled

)

select * from final
