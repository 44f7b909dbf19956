with

source as (

    select * from {{ source('raw', 'fhir_medications') }}
    where {{ in_build() }}

),

-- The newest version of a Medication that prescriptions refer to.
drugs as (

    select
        medication_key,
        arg_max(codings, {{ told_order() }}) as codings,
    from {{ source('raw', 'fhir_medication_codes') }}
    where {{ in_build() }}
    group by medication_key

),

final as (

    select
        source.source_id,
        source.batch_id,
        source.inbox_sequence,
        source.locator,
        source.known_at,
        source.record_key,
        source.person_key,
        source.encounter_key,
        source.status,
        coalesce(drugs.codings, source.codings) as codings,
        coalesce(source.event_at, source.known_at) as event_at,
        source.ended_at,
        coalesce(source.status = 'entered-in-error', false) as is_retracted,
    from source
    left join drugs on source.medication_key = drugs.medication_key

)

select * from final
