"""Cryptographic ways to the same answer, beside ours: CKKS (TenSEAL) and two-party computation (CrypTen).

Needs an environment of its own, `requirements/cryptographic.txt`, on Linux; docs/cryptographic.md has the commands and what
was measured.

    python -m studies.cryptographic --data synthetic,size=32 --keep smiling --out benchmarks/results/cryptographic.json
"""
