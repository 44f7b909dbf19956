with

skew as (

    {{ source_or_empty('monitoring', 'feature_skew', {
        'skew_check_id': 'bigint',
        'checked_on': 'date',
        'feature': 'varchar',
        'compared': 'bigint',
        'mismatched': 'bigint',
        'mismatch_rate': 'double',
        'bound': 'double',
        'is_breached': 'boolean',
    }) }}

),

final as (

    select
        skew_check_id,
        checked_on,
        feature,
        compared,
        mismatched,
        mismatch_rate,
        bound,
        is_breached,
    from skew

)

select * from final
