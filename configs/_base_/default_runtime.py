# The runtime of language models. Every hook has a name: `default_hooks.guard.max_skipped=3` changes one on the command
# line, `default_hooks.memory=None` leaves one out.
_base_ = 'runtime.py'
default_hooks = dict(
    tokenizer_check=dict(type='TokenizerCheckHook'),
    guard=dict(type='NonFiniteGuardHook'),
    throughput=dict(type='ThroughputHook'),
    memory=dict(type='MemoryHook'),
    task_balance=dict(type='TaskBalanceHook'))
