"""Every fault in every mode, held against what was expected beforehand.

`expectations.toml` says what each fault may do in each mode, `expectations` reads it, `play` makes
a run of each row, `outcome` holds what became of its votes against the row, `page` shows it all.
"""
