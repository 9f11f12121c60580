"""How often an audit calls a leak of known size, and how often it calls one where there is none.

`python -m studies.planted_leaks --out planted.json` decides many simulated audits by the shipped code (calibration, choice of
the best attack, intervals, pass rule); only the attackers' scores are simulated. `--real N` adds attackers that learn.
"""
