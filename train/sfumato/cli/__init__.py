"""The `sfumato` command: `main` registers one module a command. Only the command that runs imports torch or TensorFlow."""
