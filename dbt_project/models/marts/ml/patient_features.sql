{{
    config(
        incremental_predicates=not_a_kept_feature_date(),
    )
}}

with

spine as (

    select
        eligibility.*,
        {{ cutoff('eligibility.feature_date') }} as cutoff_at,
        cutoff_at - interval 365 days as year_before_at,
        cutoff_at - interval 3 years as slope_from_at,
    from {{ ref('patient_eligibility') }} as eligibility
    where true {{ and_to_be_recomputed('eligibility.feature_date', 'eligibility.patient_key') }}

),

patients as (

    select * from {{ ref('dim_patients') }}

),

-- Ties in time are broken by key, so that the same data gives the same features; BMI as sent goes before a weight.
blood_pressure as (

    select
        *,
        row_number() over (partition by patient_key order by event_at, known_at, blood_pressure_key) as newest_order,
    from {{ ref('fct_blood_pressure') }}
    where is_plausible and not is_preliminary

),

measurements as (

    select
        *,
        row_number() over (
            partition by patient_key order by event_at, measure = 'bmi', known_at, measurement_key
        ) as newest_order,
    from {{ ref('fct_measurements') }}
    where is_plausible

),

pressure_features as (

    select
        spine.patient_key,
        spine.feature_date,
        arg_max(systolic_mmhg, newest_order) as systolic_last_mmhg,
        arg_max(diastolic_mmhg, newest_order) as diastolic_last_mmhg,
        avg(systolic_mmhg) filter (where event_at >= year_before_at) as systolic_mean_12m_mmhg,
        avg(diastolic_mmhg) filter (where event_at >= year_before_at) as diastolic_mean_12m_mmhg,
        -- Over three years, and only where the readings span 90 days: noise over weeks is no trend.
        case
            when
                max(event_date) filter (where event_at >= slope_from_at)
                - min(event_date) filter (where event_at >= slope_from_at) >= 90
                then regr_slope(systolic_mmhg, epoch(event_at) / (365.25 * 86400)) filter (
                    where event_at >= slope_from_at
                )
        end as systolic_slope_mmhg_per_year,
        stddev_samp(systolic_mmhg) filter (where event_at >= year_before_at) as systolic_sd_12m_mmhg,
        arg_max(systolic_mmhg - diastolic_mmhg, newest_order) as pulse_pressure_last_mmhg,
        count(*) filter (where event_at >= year_before_at) as blood_pressure_count_12m,
        spine.feature_date - max(event_date) as blood_pressure_age_days,
        max(event_date) as blood_pressure_observed_on,
    from spine
    inner join blood_pressure
        on spine.patient_key = blood_pressure.patient_key and {{ known_by('blood_pressure', 'spine.cutoff_at') }}
    group by spine.patient_key, spine.feature_date

),

measurement_features as (

    select
        spine.patient_key,
        spine.feature_date,
        {% for measure, column in last_value_features().items() -%}
        arg_max(value, newest_order) filter (where measure = '{{ measure }}') as {{ column }},
        {% endfor -%}
        arg_max(value, newest_order) filter (where measure = 'body_height') as height_last_cm,
        arg_max(value_code, newest_order) filter (
            where measure = 'smoking_status' and value_code <> 'unknown'
        ) as smoking_status,
        -- The day of the value taken: the order by which it was taken follows the day, and an empty value is never taken.
        {% for measure in last_value_features() -%}
        max(event_date) filter (where measure = '{{ measure }}' and value is not null) as {{ measure }}_observed_on,
        {% endfor -%}
        max(event_date) filter (
            where measure = 'smoking_status' and value_code <> 'unknown'
        ) as smoking_status_observed_on,
    from spine
    inner join measurements
        on spine.patient_key = measurements.patient_key and {{ known_by('measurements', 'spine.cutoff_at') }}
    group by spine.patient_key, spine.feature_date

),

-- BMI as sent, else weight over the last known height (adults); as sent wins where both come from one moment.
bmi_points as (

    select
        spine.patient_key,
        spine.feature_date,
        measurements.event_at,
        measurements.event_date,
        measurements.event_at >= spine.year_before_at as is_recent,
        measurements.newest_order,
        case measurements.measure
            when 'bmi' then measurements.value
            else measurements.value / nullif(measurement_features.height_last_cm / 100, 0) ^ 2
        end as bmi_kg_m2,
    from spine
    inner join measurements
        on spine.patient_key = measurements.patient_key and {{ known_by('measurements', 'spine.cutoff_at') }}
    inner join measurement_features
        on spine.patient_key = measurement_features.patient_key
        and spine.feature_date = measurement_features.feature_date
    where measurements.measure in ('bmi', 'body_weight')

),

bmi_features as (

    select
        patient_key,
        feature_date,
        arg_max(bmi_kg_m2, newest_order) as bmi_last_kg_m2,
        case
            when count(distinct event_at) filter (where is_recent and bmi_kg_m2 is not null) >= 2
                then
                    arg_max(bmi_kg_m2, newest_order) filter (where is_recent)
                    - arg_min(bmi_kg_m2, newest_order) filter (where is_recent)
        end as bmi_change_12m_kg_m2,
        max(event_date) filter (where bmi_kg_m2 is not null) as bmi_observed_on,
    from bmi_points
    group by patient_key, feature_date

),

condition_features as (

    select
        spine.patient_key,
        spine.feature_date,
        bool_or(conditions.concept = 'diabetes') as has_diabetes,
        bool_or(conditions.concept = 'chronic_kidney_disease') as has_chronic_kidney_disease,
    from spine
    inner join {{ ref('fct_conditions') }} as conditions
        on spine.patient_key = conditions.patient_key and {{ known_by('conditions', 'spine.cutoff_at') }}
    group by spine.patient_key, spine.feature_date

),

drug_features as (

    select
        spine.patient_key,
        spine.feature_date,
        count(distinct row(medications.code_system, medications.code)) as drug_count_12m,
    from spine
    inner join {{ ref('fct_medications') }} as medications
        on spine.patient_key = medications.patient_key and {{ known_by('medications', 'spine.cutoff_at') }}
    where medications.event_at >= spine.year_before_at and {{ was_taken('medications') }}
    group by spine.patient_key, spine.feature_date

),

visit_features as (

    select
        spine.patient_key,
        spine.feature_date,
        count(*) as visit_count_12m,
    from spine
    inner join {{ ref('fct_encounters') }} as encounters
        on spine.patient_key = encounters.patient_key
        and encounters.started_at < spine.cutoff_at
        and encounters.known_at < spine.cutoff_at
    where encounters.started_at >= spine.year_before_at and {{ took_place('encounters') }}
    group by spine.patient_key, spine.feature_date

),

-- Once told, a patient stays that source's too, whatever another version says.
sources as (

    {% for fact in ['fct_blood_pressure', 'fct_measurements', 'fct_conditions', 'fct_medications'] -%}
    select patient_key, source_id, min(greatest(event_at, known_at)) as first_told_at
    from {{ ref(fact) }}
    group by patient_key, source_id
    union all
    {% endfor -%}
    select patient_key, source_id, min(greatest(started_at, known_at)) as first_told_at
    from {{ ref('fct_encounters') }}
    group by patient_key, source_id

),

source_columns as (

    select
        spine.patient_key,
        spine.feature_date,
        string_agg(distinct sources.source_id, ',' order by sources.source_id) as source_ids,
    from spine
    inner join sources on spine.patient_key = sources.patient_key and sources.first_told_at < spine.cutoff_at
    group by spine.patient_key, spine.feature_date

),

final as (

    select
        spine.patient_key,
        spine.feature_date,
        spine.is_eligible,
        (spine.feature_date - patients.birth_date) / 365.25 as age_years,
        patients.sex,
        pressure_features.systolic_last_mmhg,
        pressure_features.diastolic_last_mmhg,
        -- Sums depend on the order of rows in their last digits: rounded, a feature is the same whichever night made it.
        round(pressure_features.systolic_mean_12m_mmhg, 6) as systolic_mean_12m_mmhg,
        round(pressure_features.diastolic_mean_12m_mmhg, 6) as diastolic_mean_12m_mmhg,
        round(pressure_features.systolic_slope_mmhg_per_year, 6) as systolic_slope_mmhg_per_year,
        round(pressure_features.systolic_sd_12m_mmhg, 6) as systolic_sd_12m_mmhg,
        pressure_features.pulse_pressure_last_mmhg,
        coalesce(pressure_features.blood_pressure_count_12m, 0)::double as blood_pressure_count_12m,
        pressure_features.blood_pressure_age_days::double as blood_pressure_age_days,
        bmi_features.bmi_last_kg_m2,
        bmi_features.bmi_change_12m_kg_m2,
        {% for column in last_value_features().values() -%}
        measurement_features.{{ column }},
        {% endfor -%}
        measurement_features.smoking_status,
        coalesce(condition_features.has_diabetes, false) as has_diabetes,
        coalesce(condition_features.has_chronic_kidney_disease, false) as has_chronic_kidney_disease,
        coalesce(drug_features.drug_count_12m, 0)::double as drug_count_12m,
        coalesce(visit_features.visit_count_12m, 0)::double as visit_count_12m,
        pressure_features.blood_pressure_observed_on,
        bmi_features.bmi_observed_on,
        {% for measure in last_value_features() -%}
        measurement_features.{{ measure }}_observed_on,
        {% endfor -%}
        measurement_features.smoking_status_observed_on,
        coalesce(source_columns.source_ids, '') as source_ids,
    from spine
    inner join patients using (patient_key)
    left join pressure_features using (patient_key, feature_date)
    left join measurement_features using (patient_key, feature_date)
    left join bmi_features using (patient_key, feature_date)
    left join condition_features using (patient_key, feature_date)
    left join drug_features using (patient_key, feature_date)
    left join visit_features using (patient_key, feature_date)
    left join source_columns using (patient_key, feature_date)

)

select * from final
