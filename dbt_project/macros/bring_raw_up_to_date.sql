{# Columns that a lake made by older code lacks; its next landing adds them too (`ehr/landing.py`), but may come later. #}
{% macro bring_raw_up_to_date() -%}
    {%- if execute -%}
        {%- set older = run_query("""
            select table_name from duckdb_tables()
            where database_name = 'clinical' and schema_name = 'raw'
                and table_name not in (
                    select table_name from duckdb_columns()
                    where database_name = 'clinical' and schema_name = 'raw' and column_name = 'inbox_sequence'
                )
        """) -%}
        {%- for row in older.rows %}
            alter table clinical.raw.{{ row[0] }} add column inbox_sequence bigint;
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}
