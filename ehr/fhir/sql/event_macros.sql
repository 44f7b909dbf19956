-- What a resource says about its own time and subject; these look into `r`, the declared struct of `incoming`.
create or replace temp macro event_text(r) as
    coalesce(r."effectiveDateTime", r."effectivePeriod".start, r."effectiveInstant", r."authoredOn", r."dateAsserted");

create or replace temp macro is_not_about_a_patient(resource_type, subject_resolved) as
    resource_type not in ('Patient', 'Medication')
    and subject_resolved is not null
    and regexp_matches(subject_resolved, '(?:^|/)(Group|Device|Location|Practitioner|Organization|Substance)[/?]');
