"""What happened, written while it happens: fixed-size records in memory-mapped files.

`recorder` is the file that survives SIGKILL, `ledger` and `journal` are the two kinds of record,
`store` turns them into Parquet afterwards and reads them back. No judgement here: see `audit`.
"""
