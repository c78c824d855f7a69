"""The commands of `gonzo`, one module each with `command(arguments) -> exit code`."""
