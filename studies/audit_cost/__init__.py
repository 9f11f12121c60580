"""What an audit costs, piece by piece, in seconds of processor time.

`python -m studies.audit_cost RUN --attacks default --out cost.json` runs the audit of a run or an export as it ships and
times what it reports of itself. Nothing in the cache is used, so that two measurements compare.
"""
