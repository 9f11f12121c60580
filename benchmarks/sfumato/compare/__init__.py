"""Other methods and ours on the same data, trained on one budget, attacked by one audit.

`runner` trains and attacks every row of `rows` under one `config`; `methods` holds one module a method, `auditing` attacks it.
`schema` is comparison.json; `tables` and `plot` show it. `network_sizes` sets the size of each method as trained here beside
the size of the network in its paper.
"""
