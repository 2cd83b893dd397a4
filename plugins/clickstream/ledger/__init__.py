"""The ledger: offsets, segments, batches and event files. All SQL of the pipeline lives here."""
