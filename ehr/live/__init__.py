"""The live door: HL7 v2 over MLLP and FHIR over HTTP in, acknowledged when safe, landed in micro-batches."""
