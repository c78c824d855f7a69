"""The commands of `gonzo-ithemal`, one module each: `Options`, and `command(options) -> exit code`.

They need the extra gonzo-ithemal[cli], and import what they run when they run it.
"""
