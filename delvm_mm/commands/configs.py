"""Lists and prints the package's configs for ``delvm configs``."""

from delvm_mm.commands.parsers.configs import make_parser
from delvm_mm.engine.configs.files import SCOPE, read_config, shipped_configs
from delvm_mm.engine.launch import user_errors


@user_errors
def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    names = shipped_configs()
    if args.name.startswith(SCOPE) or args.name.removeprefix("configs/") in names:
        print(read_config(SCOPE + args.name.removeprefix("configs/").removeprefix(SCOPE)).pretty_text, end="")
        return
    found = [name for name in names if args.name in name]
    if not found:
        raise ValueError(f"none of the {len(names)} configs of the package has '{args.name}' in its name")
    for name in found:
        print(SCOPE + name)
