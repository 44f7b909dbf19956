{{
    config(
        incremental_predicates=["(outcome = 'censored' and " ~ is_matured('landmark_date') ~ ")"],
    )
}}

with

-- Everything once; then changed patients, landmarks not seen yet, and censored examples that may have matured meanwhile.
landmarks as (

    select
        eligibility.patient_key,
        eligibility.feature_date as landmark_date,
        eligibility.feature_date + 365 as window_end_date,
        {{ cutoff('eligibility.feature_date') }} as window_opens_at,
        window_opens_at + interval 365 days as window_closes_at,
    from {{ ref('patient_eligibility') }} as eligibility
    where
        eligibility.is_landmark
        and eligibility.is_eligible
        {{ and_open_example('eligibility.feature_date', 'eligibility.patient_key') }}

),

diagnoses as (

    select patient_key, event_at, event_at::date as event_date, 1 as priority, 'diagnosis' as event_kind
    from {{ ref('fct_conditions') }}
    where concept = 'hypertension' and is_current

),

drugs as (

    select patient_key, event_at, event_at::date as event_date, 2 as priority, 'drug' as event_kind
    from {{ ref('fct_medications') }} as medications
    where concept = 'antihypertensive' and is_current and {{ was_taken('medications') }}

),

high_readings as (

    select *
    from {{ ref('fct_blood_pressure') }} as readings
    where is_plausible and not is_preliminary and is_current and {{ is_high('readings') }}

),

-- The second day with a high reading, both of them within the window.
second_high_readings as (

    select
        landmarks.patient_key,
        landmarks.landmark_date,
        list_sort(list(distinct high_readings.event_date))[2] as event_date,
        3 as priority,
        'reading' as event_kind,
    from landmarks
    inner join high_readings
        on landmarks.patient_key = high_readings.patient_key
        and high_readings.event_at >= landmarks.window_opens_at
        and high_readings.event_at < landmarks.window_closes_at
    group by landmarks.patient_key, landmarks.landmark_date
    having count(distinct high_readings.event_date) >= 2

),

recorded_events as (

    select * from diagnoses
    union all
    select * from drugs

),

-- Who had it by the landmark, as is known only now. Eligibility could not know; no window can make a new case of them.
prevalent as (

    select
        landmarks.patient_key,
        landmarks.landmark_date,
    from landmarks
    inner join recorded_events
        on landmarks.patient_key = recorded_events.patient_key
        and recorded_events.event_at < landmarks.window_opens_at
    union
    select
        landmarks.patient_key,
        landmarks.landmark_date,
    from landmarks
    inner join high_readings
        on landmarks.patient_key = high_readings.patient_key
        and high_readings.event_at < landmarks.window_opens_at
    group by landmarks.patient_key, landmarks.landmark_date
    having count(distinct high_readings.event_date) >= 2

),

events as (

    select
        landmarks.patient_key,
        landmarks.landmark_date,
        recorded_events.event_date,
        recorded_events.priority,
        recorded_events.event_kind,
    from landmarks
    inner join recorded_events
        on landmarks.patient_key = recorded_events.patient_key
        and recorded_events.event_at >= landmarks.window_opens_at
        and recorded_events.event_at < landmarks.window_closes_at
    union all
    select * from second_high_readings

),

first_events as (

    select
        patient_key,
        landmark_date,
        min(event_date) as event_date,
        arg_min(event_kind, (event_date, priority)) as event_kind,
    from events
    group by patient_key, landmark_date

),

facts as (

    select patient_key, event_at from {{ ref('fct_blood_pressure') }} where is_current
    union all
    select patient_key, event_at from {{ ref('fct_measurements') }} where is_current
    union all
    select patient_key, event_at from {{ ref('fct_conditions') }} where is_current
    union all
    select patient_key, event_at from {{ ref('fct_medications') }} where is_current
    union all
    select patient_key, started_at from {{ ref('fct_encounters') }} as encounters where {{ took_place('encounters') }}

),

last_seen as (

    select patient_key, max(event_at)::date as last_seen_date
    from facts
    where event_at < {{ cutoff(as_of()) }}
    group by patient_key

),

-- Where a source has fallen silent, time stands still: nobody can have been seen after it.
told as (

    select max(last_seen_date) as told_until_date from last_seen

),

outcomes as (

    select
        landmarks.*,
        first_events.event_date,
        first_events.event_kind,
        coalesce(patients.died_date <= landmarks.window_end_date, false) as died_within_window,
        case
            when patients.died_date <= {{ as_of() }} then patients.died_date
            else last_seen.last_seen_date
        end as followed_until,
        case
            when not coalesce({{ is_matured('landmarks.landmark_date', 'told.told_until_date') }}, false) then 'censored'
            when prevalent.patient_key is not null then 'prevalent'
            when first_events.event_date is not null then 'event'
            when died_within_window or followed_until >= landmarks.window_end_date then 'no_event'
            else 'censored'
        end as outcome,
    from landmarks
    inner join {{ ref('dim_patients') }} as patients using (patient_key)
    cross join told
    left join prevalent using (patient_key, landmark_date)
    left join first_events using (patient_key, landmark_date)
    left join last_seen using (patient_key)

),

final as (

    select
        patient_key,
        landmark_date,
        (case outcome when 'event' then 1 when 'no_event' then 0 end)::tinyint as label,
        outcome,
        case when outcome = 'event' then event_date end as event_date,
        case when outcome = 'event' then event_kind end as event_kind,
        followed_until,
    from outcomes

)

select * from final
