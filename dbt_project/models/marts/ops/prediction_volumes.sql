with

predictions as (

    {{ source_or_empty('scores', 'predictions', {
        'scoring_run_id': 'bigint',
        'as_of': 'date',
        'model_version': 'integer',
        'build_id': 'bigint',
        'risk': 'double',
        'band': 'varchar',
    }) }}

),

runs as (

    select
        scoring_run_id,
        any_value(as_of) as as_of,
        any_value(model_version) as model_version,
        any_value(build_id) as build_id,
        count(*) as scored,
        avg(risk) as mean_risk,
    from predictions
    group by scoring_run_id

),

bands as (

    select
        scoring_run_id,
        band,
        count(*) as patients,
    from predictions
    group by scoring_run_id, band

),

final as (

    select
        runs.scoring_run_id::bigint as scoring_run_id,
        bands.band,
        runs.as_of,
        runs.model_version::integer as model_version,
        runs.build_id::bigint as build_id,
        case when runs.scored >= 11 then round(runs.mean_risk, 4) end as mean_risk,
        {{ shown('bands.patients', 'runs.scored') }} as patients,
    from runs
    inner join bands using (scoring_run_id)

)

select * from final
