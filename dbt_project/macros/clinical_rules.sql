{# A reading at or above 140/90 mmHg (ESC/ESH 2018 grade 1), either number. #}
{% macro is_high(reading) -%}
    ({{ reading }}.systolic_mmhg >= 140 or {{ reading }}.diastolic_mmhg >= 90)
{%- endmacro %}


{# A prescription or statement that stands for a drug taken; an absent status does (HL7 medication request statuses). #}
{% macro was_taken(medication) -%}
    coalesce({{ medication }}.status, 'unknown') not in ('entered-in-error', 'cancelled', 'draft', 'not-taken', 'intended')
{%- endmacro %}


{# A visit that was not called off. #}
{% macro took_place(encounter) -%}
    coalesce({{ encounter }}.status, 'unknown') not in ('entered-in-error', 'cancelled', 'planned')
{%- endmacro %}


{# Measures whose last value is a feature, in the order of the columns. #}
{% macro last_value_features() -%}
    {{ return({
        'heart_rate': 'heart_rate_last_bpm',
        'glucose': 'glucose_last_mg_dl',
        'hba1c': 'hba1c_last_pct',
        'creatinine': 'creatinine_last_mg_dl',
        'egfr': 'egfr_last_ml_min',
        'total_cholesterol': 'total_cholesterol_last_mg_dl',
        'ldl': 'ldl_last_mg_dl',
        'hdl': 'hdl_last_mg_dl',
        'triglycerides': 'triglycerides_last_mg_dl',
    }) }}
{%- endmacro %}


{# Labels of a landmark are given this long after its window closed: by then who stayed has mostly been seen again. #}
{% macro is_matured(landmark_date, today=none) -%}
    ({{ landmark_date }} + 365 + {{ var("label_maturity_days", 180) }} <= {{ today or as_of() }})
{%- endmacro %}
