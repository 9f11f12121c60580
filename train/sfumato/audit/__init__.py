"""The audit: fresh attackers against a frozen model, and what they found.

`runner` is the whole audit. It reads a model through `artifact`, prepares `attack_data`, runs `attacks` after a `plan`, scores
their `predictions` (`scoring`, `metrics`), computes `bounds` and applies the `pass_rule`. `schema` is audit.json; `report` and
`plots` show it.
"""
