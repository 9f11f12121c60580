"""Other methods and ours on the same data, trained on one budget, attacked by one audit.

`runner` trains and attacks every row of `rows`; `methods` holds one module a method. `schema` is comparison.json; `tables` and
`plot` show it.
"""
