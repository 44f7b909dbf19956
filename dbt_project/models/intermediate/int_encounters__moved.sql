{{ config(materialized='ephemeral') }}

-- HL7 v2 A45: the visit, and what was told with it, belongs to another patient from now on.
select
    visits.encounter_key,
    arg_max(changed.resolved_patient_key, {{ told_order('visits') }}) as patient_key,
from {{ ref('stg_hl7v2__encounters') }} as visits
inner join {{ ref('int_patients__changed') }} as changed on visits.person_key = changed.patient_key
where visits.is_moved
group by visits.encounter_key
