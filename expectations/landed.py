"""What must hold of the landed batches that no published build holds yet, before a build may read them."""

from expectations.suites import Check, Scope

_KEY = "^[0-9a-f]{32}$"
# E-mail; North American telephone; United States social security number.
_IDENTIFIERS = r"[A-Za-z0-9._+-]+@[A-Za-z0-9-]+\.[A-Za-z]|\(?\b[2-9]\d\d\)?[-. ]\d{3}[-. ]\d{4}\b|\b\d{3}-\d{2}-\d{4}\b"
_TIMED = ("fhir_patients", "hl7v2_patients", "fhir_encounters", "hl7v2_encounters", "hl7v2_messages",
          "fhir_observations", "hl7v2_observations", "fhir_conditions", "hl7v2_conditions", "fhir_medications",
          "fhir_medication_codes", "person_links")


def checks(scope: Scope) -> list[Check]:
    """Keys are pseudonyms, times are known, the ledger balances, nothing looks like a person, volumes are as usual."""
    fresh = f"batch_id > {scope.since_batch_id} and batch_id <= {scope.through_batch_id}"
    counts = f"""(select batch_id, source_id, unnest(counts, recursive := true)
                  from clinical.raw.landings where batch_id <= {scope.through_batch_id})"""
    found = [
        Check("ledger_balances", "fail", "raw.landings", "received = accepted + duplicate + ignored + quarantined",
              f"select 1 from {counts} where {fresh} and received <> accepted + duplicate + ignored + quarantined"),
        Check("something_was_accepted", "warn", "raw.landings", "a batch brings something new",
              f"select 1 from {counts} where {fresh} having coalesce(sum(accepted), 0) = 0"),
        Check("few_quarantined", "warn", "raw.landings", "under a tenth of a source's units are quarantined",
              f"""select 1 from {counts} where {fresh} group by source_id
                  having sum(quarantined) > 0.1 * sum(received)"""),
        Check("volume_as_usual", "warn", "raw.landings", "a type's volume is between a fifth and five times its mean",
              f"""select 1 from (
                      select source_id, unit, type, batch_id, sum(received) as received from {counts} group by all
                  ) group by source_id, unit, type
                  having count(*) filter (where not ({fresh})) >= 3
                      and coalesce(avg(received) filter (where {fresh}), 0) not between
                          0.2 * avg(received) filter (where not ({fresh}))
                          and 5 * avg(received) filter (where not ({fresh}))"""),
    ]
    told = " union all ".join(
        f"select known_at, landed_at, flags from clinical.raw.{table} where {fresh}" for table in _TIMED)
    found += [
        Check("known_at_is_known", "fail", "raw.*", "`known_at` is never null",
              f"select 1 from ({told}) where known_at is null"),
        Check("known_at_is_past", "warn", "raw.*",
              "nothing is known a day before it landed, but in sources whose dates are shifted",
              f"""select 1 from ({told}) where known_at > landed_at + interval 1 day
                  and not list_contains(coalesce(flags, []), 'dates_shifted')"""),
    ]
    for table, columns in (scope.key_columns or {}).items():
        wrong = " or ".join(f"not regexp_full_match({column}, '{_KEY}')" for column in columns)
        found.append(Check(f"{table}_keys_are_pseudonyms", "fail", f"raw.{table}", "every key is 32 hex digits",
                           f"select 1 from clinical.raw.{table} where {fresh} and ({wrong})"))
    for table, texts in (scope.text_columns or {}).items():
        distinct = " union ".join(
            f"select distinct {text} as said from clinical.raw.{table} where {fresh}" for text in texts)
        found.append(Check(f"{table}_names_nobody", "fail", f"raw.{table}",
                           "no text has the shape of an e-mail address, a telephone or a social security number",
                           f"select 1 from ({distinct}) where regexp_matches(said, '{_IDENTIFIERS}')"))
    return found
