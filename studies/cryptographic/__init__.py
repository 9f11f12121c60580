"""Cryptographic methods for the same task, beside ours: CKKS (TenSEAL) and two-party computation (CrypTen).

Needs an environment of its own, `requirements.txt` in this folder, on Linux. docs/cryptographic.md has the commands and the
figures, `results.json` holds what was measured. Run it from the root of a checkout:

    python -m studies.cryptographic --data synthetic,size=32 --keep smiling --out studies/cryptographic/results.json
"""
