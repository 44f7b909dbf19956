{{
    config(
        incremental_predicates=not_a_kept_feature_date(),
    )
}}

with

patients as (

    select * from {{ ref('dim_patients') }}

),

blood_pressure as (

    select * from {{ ref('fct_blood_pressure') }}
    where is_plausible and not is_preliminary

),

-- A patient is there from the first fact that had both happened and been told.
facts as (

    select patient_key, greatest(event_at, known_at) as available_at from {{ ref('fct_blood_pressure') }}
    union all
    select patient_key, greatest(event_at, known_at) from {{ ref('fct_measurements') }}
    union all
    select patient_key, greatest(event_at, known_at) from {{ ref('fct_conditions') }}
    union all
    select patient_key, greatest(event_at, known_at) from {{ ref('fct_medications') }}
    union all
    select patient_key, greatest(started_at, known_at) from {{ ref('fct_encounters') }}

),

first_facts as (

    select patient_key, min(available_at) as first_available_at from facts group by patient_key

),

history as (

    select min(greatest(event_at, known_at))::date as first_date from blood_pressure

),

-- 1 January and 1 July, from the first with a year of history.
landmarks as (

    select unnest(generate_series(date_trunc('year', first_date), {{ as_of() }}, interval 6 months))::date as landmark_date
    from history
    where first_date is not null

),

feature_dates as (

    select
        landmark_date as feature_date,
        true as is_landmark,
    from landmarks
    cross join history
    where landmark_date >= first_date + interval 1 year
    union all
    select
        {{ as_of() }},
        false,
    where {{ as_of() }} not in (
        select landmark_date from landmarks cross join history where landmark_date >= first_date + interval 1 year
    )

),

-- What this build has to work out: everything once; then changed patients, the day itself, and landmarks not seen yet.
spine as (

    select
        patients.patient_key,
        feature_dates.feature_date,
        feature_dates.is_landmark,
        {{ cutoff('feature_dates.feature_date') }} as cutoff_at,
        patients.birth_date,
        patients.died_date,
    from patients
    cross join feature_dates
    left join first_facts using (patient_key)
    where
        (not feature_dates.is_landmark or first_facts.first_available_at < cutoff_at)
        {{ and_to_be_recomputed('feature_dates.feature_date', 'patients.patient_key') }}

),

readings as (

    select
        spine.patient_key,
        spine.feature_date,
        bool_or(blood_pressure.event_at >= spine.cutoff_at - interval 365 days) as has_recent_reading,
        count(distinct blood_pressure.event_date) filter (
            where {{ is_high('blood_pressure') }}
        ) as high_reading_days,
    from spine
    inner join blood_pressure
        on spine.patient_key = blood_pressure.patient_key and {{ known_by('blood_pressure', 'spine.cutoff_at') }}
    group by all

),

-- A resolved or stopped one still tells that the patient is no longer a new case.
diagnosed as (

    select distinct
        spine.patient_key,
        spine.feature_date,
    from spine
    inner join {{ ref('fct_conditions') }} as conditions
        on spine.patient_key = conditions.patient_key and {{ known_by('conditions', 'spine.cutoff_at') }}
    where conditions.concept = 'hypertension'

),

treated as (

    select distinct
        spine.patient_key,
        spine.feature_date,
    from spine
    inner join {{ ref('fct_medications') }} as medications
        on spine.patient_key = medications.patient_key and {{ known_by('medications', 'spine.cutoff_at') }}
    where medications.concept = 'antihypertensive' and {{ was_taken('medications') }}

),

reasons as (

    select
        spine.patient_key,
        spine.feature_date,
        spine.is_landmark,
        case
            when spine.birth_date is null then 'age_unknown'
            when spine.birth_date > spine.feature_date - interval 18 years then 'under_18'
            when spine.birth_date <= spine.feature_date - interval 86 years then 'over_85'
            when spine.died_date <= spine.feature_date then 'deceased'
            when diagnosed.patient_key is not null then 'diagnosed'
            when treated.patient_key is not null then 'treated'
            when readings.high_reading_days >= 2 then 'two_high_readings'
            when not coalesce(readings.has_recent_reading, false) then 'no_recent_reading'
        end as ineligible_reason,
    from spine
    left join readings using (patient_key, feature_date)
    left join diagnosed using (patient_key, feature_date)
    left join treated using (patient_key, feature_date)

),

final as (

    select
        patient_key,
        feature_date,
        is_landmark,
        ineligible_reason is null as is_eligible,
        ineligible_reason,
    from reasons

)

select * from final
