"""Folders of shards on disk: tokens of clips, and what a teacher predicts. They know no data set and no model."""

from delvm_mm.stores.teacher_store import TeacherCache
from delvm_mm.stores.token_store import TokenStore
from delvm_mm.stores.token_store_writer import TokenStoreWriter

__all__ = ["TeacherCache", "TokenStore", "TokenStoreWriter"]
