"""A trained tokenizer as a folder that every other config can name."""

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from delvm_mm.engine.unwrap import unwrap_model
from delvm_mm.registry import HOOKS


@HOOKS.register_module()
class SaveTokenizerHook(Hook):
    """After training a :class:`VQGANTrainer`, write ``config.json`` and ``pytorch_model.bin`` in the published layout.

    Args:
        out_dir (str): The folder; name it as ``dict(type='VQGAN', pretrained=out_dir)``.
    """

    def __init__(self, out_dir: str) -> None:
        self.out_dir = out_dir

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Write the folder."""
        model = unwrap_model(runner.model)
        model.vqgan.save_pretrained(self.out_dir)
        runner.logger.info(f"tokenizer {model.vqgan.fingerprint} saved in {self.out_dir}")
