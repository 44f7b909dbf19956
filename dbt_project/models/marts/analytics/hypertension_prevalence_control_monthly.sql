with

-- The 24 whole months before the day of the build: a bounded cost, and months that no longer change much.
months as (

    select
        unnest(generate_series(
            date_trunc('month', {{ as_of() }}) - interval 24 months,
            date_trunc('month', {{ as_of() }}) - interval 1 month,
            interval 1 month
        ))::date as month,
        last_day(month) as month_end,

),

patients as (

    select * from {{ ref('dim_patients') }} where birth_date is not null

),

readings as (

    select
        patient_key,
        event_date,
        arg_max({{ is_high('pressures') }}, (event_at, blood_pressure_key)) as is_high,
    from {{ ref('fct_blood_pressure') }} as pressures
    where is_plausible and is_current and not is_preliminary
    group by patient_key, event_date

),

activity as (

    select distinct patient_key, started_at::date as active_date
    from {{ ref('fct_encounters') }} as encounters
    where {{ took_place('encounters') }} and started_at is not null
    union
    select patient_key, event_date from readings

),

hypertension as (

    select patient_key, event_date from {{ ref('fct_conditions') }} where concept = 'hypertension' and is_current
    union all
    select patient_key, event_date
    from {{ ref('fct_medications') }} as medications
    where concept = 'antihypertensive' and is_current and {{ was_taken('medications') }}

),

first_hypertension as (

    select patient_key, min(event_date) as diagnosed_date from hypertension group by patient_key

),

-- Adults alive at the month's end who were seen in the two years before.
population as (

    select
        months.month,
        months.month_end,
        patients.patient_key,
        patients.sex,
        {{ age_band('patients.birth_date', 'months.month_end') }} as age_band,
    from months
    cross join patients
    asof join activity
        on patients.patient_key = activity.patient_key and months.month_end >= activity.active_date
    where
        activity.active_date > months.month_end - interval 2 years
        and patients.birth_date <= months.month_end - interval 18 years
        and coalesce(patients.died_date > months.month_end, true)

),

states as (

    select
        population.*,
        coalesce(first_hypertension.diagnosed_date <= population.month_end, false) as is_diagnosed,
        is_diagnosed and coalesce(readings.event_date > population.month_end - 365, false) as is_measured,
        is_measured and not readings.is_high as is_controlled,
    from population
    left join first_hypertension using (patient_key)
    asof left join readings
        on population.patient_key = readings.patient_key and population.month_end >= readings.event_date

),

counts as (

    select
        month,
        age_band,
        sex,
        count(*) as patients,
        count(*) filter (where is_diagnosed) as diagnosed,
        count(*) filter (where is_measured) as measured,
        count(*) filter (where is_controlled) as controlled,
    from states
    group by all

),

-- From the whole to its parts: nothing is shown of what is not shown itself.
suppressed as (

    select
        month,
        age_band,
        sex,
        case when counts.patients >= 11 then counts.patients end as patients_shown,
        {{ shown('counts.diagnosed', 'patients_shown') }} as diagnosed_shown,
        {{ shown('counts.measured', 'diagnosed_shown') }} as measured_shown,
        {{ shown('counts.controlled', 'measured_shown') }} as controlled_shown,
    from counts

),

final as (

    select
        month,
        age_band,
        sex,
        patients_shown as patients,
        diagnosed_shown as diagnosed,
        round(diagnosed_shown / patients_shown, 3) as prevalence,
        measured_shown as measured,
        controlled_shown as controlled,
        round(controlled_shown / measured_shown, 3) as controlled_share,
    from suppressed

)

select * from final
