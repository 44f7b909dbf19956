{# Rows this build may see: everything landed up to the batch it was started for. #}
{% macro in_build(relation='') -%}
    {{ relation ~ '.' if relation }}batch_id <= {{ var('through_batch_id') }}
{%- endmacro %}


{#
    Rows the published build does not hold yet. All rows, when tables are made from nothing or one to be built is missing:
    an incremental model that was added since must see every patient, not only the changed ones.
#}
{% macro new_in_build(relation='') -%}
    {{ relation ~ '.' if relation }}batch_id > {{ -1 if is_everyone_changed() else var('since_batch_id') }}
    and {{ in_build(relation) }}
{%- endmacro %}


{% macro is_everyone_changed() -%}
    {% if not execute -%}
        {{ return(false) }}
    {%- endif %}
    {% if flags.FULL_REFRESH or var('since_batch_id') | int == 0 -%}
        {{ return(true) }}
    {%- endif %}
    {% for node in graph.nodes.values() if node.config.materialized == 'incremental' and node.unique_id in selected_resources -%}
        {% if not load_relation(api.Relation.create(node.database, node.schema, node.alias, type='table')) -%}
            {{ return(true) }}
        {%- endif %}
    {%- endfor %}
    {{ return(false) }}
{%- endmacro %}


{# The landing tables whose rows speak of a person. #}
{% macro person_tables() -%}
    {{ return([
        'fhir_patients', 'fhir_encounters', 'fhir_observations', 'fhir_conditions', 'fhir_medications',
        'hl7v2_patients', 'hl7v2_encounters', 'hl7v2_observations', 'hl7v2_conditions', 'person_links',
    ]) }}
{%- endmacro %}
