"""What a run found, for people and for machines: page, summary, tables, figures, JUnit.

Everything is made from `result.json` and the Parquet files, so a report can be made again later.
`sentences` holds the words, `palette` the colours, `figures` the pictures; `page.render` writes
them all. Nothing is judged here: verdicts come from the audit.
"""
