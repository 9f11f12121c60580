"""The service under load and abuse: one command a question, on this machine's loopback alone.

python -m sfumato.stress load demo/export
python -m sfumato.stress --help
"""
