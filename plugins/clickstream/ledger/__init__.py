"""The ledger: offsets, segments, batches and event files. All SQL on it and on the results lives here."""
