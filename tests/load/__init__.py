"""The service under load and abuse: one command a question, on this machine's loopback alone.

python -m tests.load load demo/export
python -m tests.load --help
"""
