with

metrics as (

    {{ source_or_empty('monitoring', 'drift_metrics', {
        'drift_verdict_id': 'bigint',
        'as_of': 'date',
        'model_version': 'integer',
        'kind': 'varchar',
        'feature': 'varchar',
        'statistic': 'varchar',
        'value': 'double',
        'threshold': 'double',
        'is_breached': 'boolean',
    }) }}

),

final as (

    select
        drift_verdict_id::bigint as drift_verdict_id,
        as_of,
        model_version::integer as model_version,
        kind,
        feature,
        statistic,
        -- Without a threshold it rests on too few visits to be judged, so on too few to be shown; Evidently has none ever.
        case when threshold is not null or starts_with(statistic, 'evidently_') then value end as value,
        threshold,
        is_breached,
    from metrics

)

select * from final
