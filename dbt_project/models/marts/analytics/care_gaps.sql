with

patients as (

    select
        patient_key,
        sex,
        {{ age_band('birth_date', as_of()) }} as age_band,
    from {{ ref('dim_patients') }}
    where
        birth_date <= {{ as_of() }} - interval 18 years
        and coalesce(died_date > {{ as_of() }}, true)

),

readings as (

    select
        patient_key,
        event_date,
        bool_or({{ is_high('pressures') }}) as is_high,
        lead(event_date) over (partition by patient_key order by event_date) as next_reading_date,
    from {{ ref('fct_blood_pressure') }} as pressures
    where is_plausible and is_current and not is_preliminary and event_date <= {{ as_of() }}
    group by patient_key, event_date

),

treatments as (

    select patient_key, event_date
    from {{ ref('fct_medications') }} as medications
    where
        concept = 'antihypertensive'
        and is_current
        and {{ was_taken('medications') }}
        and event_date <= {{ as_of() }}

),

diagnosed as (

    select distinct patient_key
    from {{ ref('fct_conditions') }}
    where concept = 'hypertension' and is_current and event_date <= {{ as_of() }}

),

last_readings as (

    select
        patient_key,
        max(event_date) as last_reading_date,
        arg_max(is_high, event_date) as is_last_high,
    from readings
    group by patient_key

),

-- A high reading of the last 15 months that nobody looked at again within 90 days, once those have passed.
without_follow_up as (

    select
        'high_reading_without_follow_up' as gap,
        patient_key,
        bool_or(coalesce(next_reading_date > event_date + 90, true)) as has_gap,
    from readings
    where is_high and event_date between {{ as_of() }} - 455 and {{ as_of() }} - 90
    group by patient_key

),

without_reading as (

    select
        'diagnosed_without_reading_12m' as gap,
        diagnosed.patient_key,
        coalesce(last_readings.last_reading_date <= {{ as_of() }} - 365, true) as has_gap,
    from diagnosed
    left join last_readings using (patient_key)

),

untreated as (

    select
        'uncontrolled_without_drug_12m' as gap,
        last_readings.patient_key,
        last_readings.patient_key not in (
            select patient_key from treatments where event_date > {{ as_of() }} - 365
        ) as has_gap,
    from last_readings
    semi join diagnosed using (patient_key)
    where last_readings.is_last_high and last_readings.last_reading_date > {{ as_of() }} - 365

),

gaps as (

    select * from without_follow_up
    union all
    select * from without_reading
    union all
    select * from untreated

),

counts as (

    select
        gaps.gap,
        patients.age_band,
        patients.sex,
        count(*) as patients,
        count(*) filter (where gaps.has_gap) as patients_with_gap,
    from gaps
    inner join patients using (patient_key)
    group by all

),

suppressed as (

    select
        gap,
        age_band,
        sex,
        case when counts.patients >= 11 then counts.patients end as patients_shown,
        {{ shown('counts.patients_with_gap', 'patients_shown') }} as with_gap_shown,
    from counts

),

final as (

    select
        date_trunc('month', {{ as_of() }})::date as month,
        gap,
        age_band,
        sex,
        patients_shown as patients,
        with_gap_shown as patients_with_gap,
        round(with_gap_shown / patients_shown, 3) as gap_share,
    from suppressed

)

select * from final
