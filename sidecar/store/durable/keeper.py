"""The thread that owns the file: what is asked of it in one moment becomes one transaction, with one fsync."""

from collections.abc import Callable
from pathlib import Path

from ...core.parameters import DurableConfig
from .. import keeper
from .store import Changes, DurableStore, Sizes


class Keeper(keeper.DatabaseKeeper[DurableStore, Changes]):
    """That of durable messages."""

    def __init__(
        self,
        path: Path,
        config: DurableConfig,
        on_changes: Callable[[Changes], None],
        on_trouble: Callable[[str], None] = lambda trouble: None,
        open_store: Callable[[Path, DurableConfig], DurableStore] = DurableStore,
        on_slow: Callable[[str], None] = lambda slow: None,
    ) -> None:
        """As any keeper."""
        self.sizes = Sizes()
        """What is kept."""

        def changed(changes: Changes) -> None:
            self.sizes = changes.sizes
            on_changes(changes)

        super().__init__(path, lambda: open_store(path, config), changed, on_trouble, on_slow=on_slow)
