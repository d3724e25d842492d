import typer
def finetune() -> None:
    """x"""
