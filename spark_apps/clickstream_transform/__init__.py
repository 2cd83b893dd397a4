"""The transformation of one batch: raw Parquet segments in, accepted events, rejected records and tables out.

`pipeline.run` chains the steps; each step is a module of its own. `event` and what it imports are plain
Python without Spark, so that the contract can be read, tested and reused without a session.
"""
