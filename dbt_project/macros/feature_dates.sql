{#
    Feature dates are the landmarks and the day of the build. A night works out changed patients, the day itself, and
    landmarks that the table lacks; the rows of former days that were no landmark go.
#}
{% macro and_to_be_recomputed(date_expression, patient_expression) -%}
    {% set changed = ref('int_patients__changed') -%}
    {% if is_incremental() -%}
        and (
            {{ patient_expression }} in (select patient_key from {{ changed }})
            or {{ date_expression }} = {{ as_of() }}
            or {{ date_expression }} not in (select distinct feature_date from {{ this }})
        )
    {%- endif %}
{%- endmacro %}


{% macro not_a_kept_feature_date() -%}
    {{ return([
        "feature_date >= " ~ as_of(),
        "day(feature_date) <> 1",
        "month(feature_date) not in (1, 7)",
    ]) }}
{%- endmacro %}


{# Examples to work out: changed patients', landmarks the table lacks, and censored ones that may have matured meanwhile. #}
{% macro and_open_example(date_expression, patient_expression) -%}
    {% set changed = ref('int_patients__changed') -%}
    {% if is_incremental() -%}
        and (
            {{ patient_expression }} in (select patient_key from {{ changed }})
            or {{ date_expression }} not in (select distinct landmark_date from {{ this }})
            or ({{ patient_expression }}, {{ date_expression }}) in (
                select (patient_key, landmark_date) from {{ this }}
                where outcome = 'censored' and {{ is_matured('landmark_date') }}
            )
        )
    {%- endif %}
{%- endmacro %}
