"""The subcommands of ``pyrsia-node``: options and printing only; the work is done beside them."""
