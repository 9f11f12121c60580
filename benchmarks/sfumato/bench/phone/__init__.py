"""Real phones. `adb` finds and commands them, `device` says what they are and how warm, `benchmark` measures all of `config`.

`app` runs the demo app's benchmark activity, `protocol` is its result file, `measurement` turns that into our own result.
`without_app` needs no app: it runs the guest of `bench arm` from adb's shell, and `benchmark_model` is LiteRT's own tool.
"""
