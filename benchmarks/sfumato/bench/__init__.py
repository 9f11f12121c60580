"""What it costs on the phone: this computer, emulated ARM cores and real phones, ours and others, one result file each.

Commands are in `sfumato.cli.bench`, the files they write in `sfumato.bench.results`, what they mean in
docs/benchmarks.md.
"""
