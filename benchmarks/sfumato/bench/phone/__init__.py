"""Real phones: `adb` finds and commands them, `protocol` is the demo app's result file, `measuring` makes ours of it."""
