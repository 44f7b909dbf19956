{{ config(materialized='table') }}

with

new_rows as (

    {% for table in person_tables() -%}
    select person_key from {{ source('raw', table) }} where {{ new_in_build() }}
    union all
    {% endfor -%}
    select other_person_key from {{ source('raw', 'person_links') }} where {{ new_in_build() }}
    union all
    -- A drug that prescriptions refer to was told, or told anew.
    select medications.person_key
    from {{ source('raw', 'fhir_medications') }} as medications
    where
        {{ in_build('medications') }}
        and medications.medication_key in (
            select medication_key from {{ source('raw', 'fhir_medication_codes') }} where {{ new_in_build() }}
        )

),

new_persons as (

    select distinct person_key from new_rows where person_key is not null

),

resolved as (

    select * from {{ ref('int_persons__resolved') }}

),

-- Whoever was ever linked to a person with news: any of their keys may have been the patient's key in a former build.
touched as (

    select person_key, patient_key as resolved_patient_key
    from resolved
    where group_key in (select group_key from resolved semi join new_persons using (person_key))
    union all
    select person_key, person_key
    from new_persons
    where person_key not in (select person_key from resolved)

),

final as (

    select
        person_key as patient_key,
        resolved_patient_key,
    from touched

)

select * from final
