"""Real phones. `adb` finds and commands them, `app` runs the demo app's benchmark activity, `protocol` is its result file.

`measurement` turns that into our own result, and `benchmark` does all configurations of `config`.
"""
