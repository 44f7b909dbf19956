-- One role and one database per purpose, so that access can be given apart. Runs once, on an empty data directory.
-- Passwords come from the environment of the container; psql reads them (never the command line, never a log).
\set ON_ERROR_STOP on
\getenv airflow_password AIRFLOW_DB_PASSWORD
\getenv mlflow_password MLFLOW_DB_PASSWORD
\getenv ops_password OPS_DB_PASSWORD
\getenv vault_password VAULT_DB_PASSWORD
\getenv lake_password LAKE_DB_PASSWORD

create role airflow login password :'airflow_password';
create role mlflow login password :'mlflow_password';
create role ops login password :'ops_password';
create role vault login password :'vault_password';
create role lake login password :'lake_password';

create database airflow owner airflow;
create database mlflow owner mlflow;
create database ops owner ops;
create database vault owner vault;
create database lake owner lake;

-- By default every role may connect to every database.
revoke connect, temporary on database airflow from public;
revoke connect, temporary on database mlflow from public;
revoke connect, temporary on database ops from public;
revoke connect, temporary on database vault from public;
revoke connect, temporary on database lake from public;
