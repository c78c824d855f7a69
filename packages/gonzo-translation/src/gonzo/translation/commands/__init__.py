"""The commands of `gonzo-translation`, one module each: `Options`, `command(options) -> exit code`.

They need the extra gonzo-translation[cli], and import what they run when they run it.
"""
